//! What happens after an error.

use super::RouteList;

envelope! {
    /// `errors`: routes for failed requests.
    pub struct HttpErrorConfig {
        /// The routes.
        pub routes: RouteList,
    }
}
