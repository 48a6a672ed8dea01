//! Request matchers: a set is AND, sets are OR, no set at all matches.
//!
//! Matching waits for nothing. A matcher that has to know what is to be waited for (a file that is
//! not in memory) says so with [`Awaited::ask`]; the route is then matched anew when the answer is
//! there, and the matcher finds it with [`Awaited::answers`].

use std::any::Any;

use crate::{Exchange, LocalBoxFuture, Result};

/// One property of the request.
pub trait Matcher: Send + Sync + 'static {
    /// Whether the request has the property. May leave values (captures) in the exchange.
    ///
    /// # Errors
    /// A matcher's error ends the chain and goes to the error routes.
    fn matches(&self, ex: &mut Exchange) -> Result<bool>;
}

/// Matchers that must all match.
#[derive(Default)]
pub struct MatcherSet(pub Vec<Box<dyn Matcher>>);

impl MatcherSet {
    /// Whether every matcher matches; true for none.
    ///
    /// # Errors
    /// The first error of a matcher.
    pub fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        for matcher in &self.0 {
            if !matcher.matches(ex)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Sets of which one must match.
#[derive(Default)]
pub struct MatcherSets(pub Vec<MatcherSet>);

impl MatcherSets {
    /// Whether a set matches; true where there is none.
    ///
    /// # Errors
    /// The first error of a matcher.
    pub fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        if self.0.is_empty() {
            return Ok(true);
        }
        for set in &self.0 {
            if set.matches(ex)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Answers of one route's matchers that had to be waited for.
#[derive(Default)]
pub struct Awaited {
    /// Whether somebody is there to wait.
    can_wait: bool,
    /// Few requests have any.
    asked: Option<Box<Asked>>,
}

#[derive(Default)]
struct Asked {
    question: Option<LocalBoxFuture<'static, Box<dyn Any>>>,
    answers: Vec<Box<dyn Any>>,
}

/// Questions of one route beyond these are answered on the spot: some matcher asks anew each time.
const MOST_ANSWERS: usize = 32;

impl Awaited {
    /// Whether a question can be asked; otherwise the matcher waits by itself.
    pub fn can_wait(&self) -> bool {
        self.can_wait
    }

    /// Asks. What the matcher says besides does not count: it is asked again.
    pub fn ask<T: 'static>(&mut self, question: impl Future<Output = T> + 'static) {
        // One at a time: a matcher after this one may not be asked at all next time.
        let asked = self.asked.get_or_insert_default();
        if asked.question.is_none() {
            asked.question = Some(Box::pin(async { Box::new(question.await) as Box<dyn Any> }));
        }
    }

    /// The answers of a kind so far.
    pub fn answers<T: 'static>(&self) -> impl Iterator<Item = &T> {
        let asked = self.asked.iter();
        asked.flat_map(|asked| &asked.answers).filter_map(|answer| answer.downcast_ref())
    }

    fn question(&mut self) -> Option<LocalBoxFuture<'static, Box<dyn Any>>> {
        self.asked.as_mut()?.question.take()
    }

    fn answer(&mut self, answer: Box<dyn Any>) {
        let asked = self.asked.get_or_insert_default();
        asked.answers.push(answer);
        self.can_wait = asked.answers.len() < MOST_ANSWERS;
    }
}

impl MatcherSets {
    /// As [`matches`](Self::matches), and waits where a matcher has to.
    ///
    /// # Errors
    /// The first error of a matcher.
    pub async fn matches_when_known(&self, ex: &mut Exchange) -> Result<bool> {
        ex.awaited.can_wait = true;
        let mut matched = self.matches(ex);
        while let Some(question) = ex.awaited.question() {
            let answer = question.await;
            ex.awaited.answer(answer);
            matched = self.matches(ex);
        }
        // Answers are true for this moment and this path.
        ex.awaited = Awaited::default();
        matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for what it is told, again and again where it never gets the same.
    struct Asks(Box<dyn Fn() -> u64 + Send + Sync>);

    impl Matcher for Asks {
        fn matches(&self, ex: &mut Exchange) -> Result<bool> {
            let wanted = (self.0)();
            if ex.awaited.answers::<u64>().any(|answer| *answer == wanted) {
                return Ok(true);
            }
            if ex.awaited.can_wait() {
                ex.awaited.ask(async move {
                    tokio::task::yield_now().await;
                    wanted
                });
            }
            Ok(false)
        }
    }

    /// An error that must not count before all is known.
    struct Fails;

    impl Matcher for Fails {
        fn matches(&self, ex: &mut Exchange) -> Result<bool> {
            match ex.awaited.answers::<u64>().count() {
                2 => Ok(true),
                count => Err(crate::HttpError::internal(count)),
            }
        }
    }

    #[tokio::test]
    async fn what_is_asked_is_waited_for() {
        let mut ex = Exchange::for_test("/");
        let asks = |number| Box::new(Asks(Box::new(move || number))) as Box<dyn Matcher>;
        let set = MatcherSet(vec![asks(1), asks(2), Box::new(Fails)]);
        let sets = MatcherSets(vec![set]);
        assert!(sets.matches_when_known(&mut ex).await.expect("no error"));
        assert_eq!(ex.awaited.answers::<u64>().count(), 0);
        // Nobody waits.
        assert!(!sets.matches(&mut ex).expect("no error"));
        assert!(ex.awaited.question().is_none());
    }

    #[tokio::test]
    async fn questions_end() {
        let mut ex = Exchange::for_test("/");
        let asked = std::sync::atomic::AtomicU64::new(0);
        let next = move || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let sets = MatcherSets(vec![MatcherSet(vec![Box::new(Asks(Box::new(next)))])]);
        assert!(!sets.matches_when_known(&mut ex).await.expect("no error"));
    }
}
