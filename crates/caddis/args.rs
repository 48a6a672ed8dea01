//! The command line (spec A041–A066): Caddy's commands and flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::report::Format;

/// A web server and reverse proxy that runs the Caddyfile people already have.
#[derive(Debug, Parser)]
#[command(
    name = "caddis",
    version = version(),
    disable_help_subcommand = false,
    disable_version_flag = true
)]
pub(crate) struct Arguments {
    /// Print the version
    #[arg(short, long, exclusive = true)]
    pub(crate) version: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The command line as data, for help, manual pages and completions.
pub(crate) fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

pub(crate) fn version() -> &'static str {
    concat!("v", env!("CARGO_PKG_VERSION"))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the server in the foreground
    Run(Run),
    /// Starts the server in the background
    Start(Start),
    /// Stops the running server
    Stop(Client),
    /// Shows the certificates of the running server
    Certs(Certs),
    /// Puts the root of a local authority into the trust stores
    Trust(Trust),
    /// Takes the root of a local authority out of the trust stores
    Untrust(Untrust),
    /// Changes the config of the running server
    Reload(Reload),
    /// Finds every mistake in a config
    #[command(visible_alias = "validate")]
    Check(Check),
    /// Tells what becomes of a request
    Explain(Explain),
    /// Adapts a config to JSON
    Adapt(Adapt),
    /// Formats a Caddyfile
    Fmt(Fmt),
    /// Prints the version
    Version,
    /// Prints how the program was built
    BuildInfo,
    /// Prints the environment
    Environ(Environ),
    /// Lists the modules
    ListModules(ListModules),
    /// Exports or imports the storage of a config
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Hashes a password
    HashPassword(HashPassword),
    /// Serves files
    FileServer(FileServer),
    /// Proxies to upstreams
    ReverseProxy(ReverseProxy),
    /// Answers every request with the same response
    Respond(Respond),
    /// Writes the manual pages
    Manpage(Manpage),
    /// Prints a completion script
    Completion(Completion),
}

#[derive(Debug, Args)]
pub(crate) struct Manpage {
    /// Folder for the pages; made where it is missing
    #[arg(short = 'o', long)]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// A shell that there are completions for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Config {
    /// Configuration file; `-` is standard input
    #[arg(short, long)]
    pub(crate) config: Option<String>,
    /// Name of the config adapter
    #[arg(short, long)]
    pub(crate) adapter: Option<String>,
    /// Environment file to load; may be given several times
    #[arg(long, value_delimiter = ',')]
    pub(crate) envfile: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) config: Config,
    /// How to print what is found
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Fail on warnings, too
    #[arg(long)]
    pub(crate) strict: bool,
    /// Lint not to report; may be given several times
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    /// Tell what a lint is about (`list` names all)
    #[arg(long, value_name = "CODE")]
    pub(crate) explain: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Method of the request
    pub(crate) method: String,
    /// URL of the request; without a scheme, HTTPS where the host is served so
    pub(crate) url: String,
    /// Request header, `Field: value`; may be given several times
    #[arg(short = 'H', long)]
    pub(crate) header: Vec<String>,
    #[command(flatten)]
    pub(crate) config: Config,
    /// Address of the client
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) from: std::net::IpAddr,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) config: Config,
    /// Print the environment
    #[arg(short, long)]
    pub(crate) environ: bool,
    /// Use the saved config, if any, instead of the file
    #[arg(short, long)]
    pub(crate) resume: bool,
    /// Watch the config file and reload when it changes
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Write the process id to this file
    #[arg(long)]
    pub(crate) pidfile: Option<PathBuf>,
    /// Where to say that the server runs (used by `start`)
    #[arg(long, hide = true)]
    pub(crate) pingback: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) config: Config,
    /// Watch the config file and reload when it changes
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Write the process id to this file
    #[arg(long)]
    pub(crate) pidfile: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Client {
    #[command(flatten)]
    pub(crate) config: Config,
    /// Address of the admin endpoint
    #[arg(long)]
    pub(crate) address: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Certs {
    #[command(subcommand)]
    pub(crate) command: Option<CertsCommand>,
    #[command(flatten)]
    pub(crate) client: Client,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Tells what would become of the certificates of a config, without asking for one
    Check(CertsCheck),
}

#[derive(Debug, Args)]
pub(crate) struct CertsCheck {
    /// Names; all that the config manages if none is given
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) client: Client,
    /// DNS resolver to ask instead of the system's; may be given several times
    #[arg(long)]
    pub(crate) resolver: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trust {
    #[command(flatten)]
    pub(crate) client: Client,
    /// The id of the authority
    #[arg(long, default_value = "local")]
    pub(crate) ca: String,
}

#[derive(Debug, Args)]
pub(crate) struct Untrust {
    #[command(flatten)]
    pub(crate) client: Client,
    /// The id of the authority
    #[arg(long, default_value = "local")]
    pub(crate) ca: String,
    /// File of the root certificate
    #[arg(short = 'p', long)]
    pub(crate) cert: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    pub(crate) client: Client,
    /// Reload even if the config did not change
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Adapt {
    #[command(flatten)]
    pub(crate) config: Config,
    /// Indent the output
    #[arg(short, long)]
    pub(crate) pretty: bool,
    /// Check the result as `check` does
    #[arg(long)]
    pub(crate) validate: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Exports what the storage holds as a tar archive
    Export(StorageExport),
    /// Imports what a tar archive holds
    Import(StorageImport),
}

#[derive(Debug, Args)]
pub(crate) struct StorageExport {
    #[command(flatten)]
    pub(crate) config: Config,
    /// The archive; `-` is standard output
    #[arg(short, long)]
    pub(crate) output: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StorageImport {
    #[command(flatten)]
    pub(crate) config: Config,
    /// The archive; `-` is standard input
    #[arg(short, long)]
    pub(crate) input: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Fmt {
    /// The file; `-` is standard input
    pub(crate) path: Option<String>,
    /// The file
    #[arg(short, long)]
    pub(crate) config: Option<String>,
    /// Write the result to the file
    #[arg(short = 'w', long)]
    pub(crate) overwrite: bool,
    /// Print the difference
    #[arg(short, long)]
    pub(crate) diff: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Environ {
    /// Environment file to load; may be given several times
    #[arg(long, value_delimiter = ',')]
    pub(crate) envfile: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ListModules {
    /// Print package paths
    #[arg(long)]
    pub(crate) packages: bool,
    /// Print versions
    #[arg(long)]
    pub(crate) versions: bool,
    /// Leave standard modules out
    #[arg(short, long)]
    pub(crate) skip_standard: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HashPassword {
    /// The password; asked for where missing
    #[arg(short, long)]
    pub(crate) plaintext: Option<String>,
    /// bcrypt or argon2id
    #[arg(short, long, default_value = "bcrypt")]
    pub(crate) algorithm: String,
    /// Cost of bcrypt
    #[arg(long, default_value_t = 14)]
    pub(crate) bcrypt_cost: u32,
    /// Iterations of argon2id
    #[arg(long, default_value_t = 1)]
    pub(crate) argon2id_time: u32,
    /// Memory of argon2id in KiB
    #[arg(long, default_value_t = 47104)]
    pub(crate) argon2id_memory: u32,
    /// Threads of argon2id
    #[arg(long, default_value_t = 1)]
    pub(crate) argon2id_threads: u32,
    /// Key length of argon2id
    #[arg(long, default_value_t = 32)]
    pub(crate) argon2id_keylen: u32,
}

#[derive(Debug, Args)]
pub(crate) struct FileServer {
    /// Domain name; makes the server use HTTPS
    #[arg(short, long)]
    pub(crate) domain: Option<String>,
    /// Root of the site
    #[arg(short, long)]
    pub(crate) root: Option<String>,
    /// Address to listen on
    #[arg(short, long)]
    pub(crate) listen: Option<String>,
    /// List folders
    #[arg(short, long)]
    pub(crate) browse: bool,
    /// Show where symbolic links lead
    #[arg(long)]
    pub(crate) reveal_symlinks: bool,
    /// Log requests
    #[arg(short, long)]
    pub(crate) access_log: bool,
    /// Log at level debug
    #[arg(short = 'v', long)]
    pub(crate) debug: bool,
    /// Most files of a listing
    #[arg(short, long, default_value_t = 10000)]
    pub(crate) file_limit: u32,
    /// Run templates in files
    #[arg(short, long)]
    pub(crate) templates: bool,
    /// Do not compress
    #[arg(long)]
    pub(crate) no_compress: bool,
    /// Kinds of precompressed files, comma separated
    #[arg(short, long, value_delimiter = ',')]
    pub(crate) precompressed: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReverseProxy {
    /// Address to receive requests on
    #[arg(short, long, default_value = "localhost")]
    pub(crate) from: String,
    /// Upstream address; may be given several times
    #[arg(short, long, value_delimiter = ',')]
    pub(crate) to: Vec<String>,
    /// Set Host to the upstream's address
    #[arg(short, long)]
    pub(crate) change_host_header: bool,
    /// Do not verify upstream certificates
    #[arg(long)]
    pub(crate) insecure: bool,
    /// No redirects from HTTP to HTTPS
    #[arg(short = 'r', long)]
    pub(crate) disable_redirects: bool,
    /// Certificates of the internal CA
    #[arg(short, long)]
    pub(crate) internal_certs: bool,
    /// Request header to the upstream, `Field: value`
    #[arg(short = 'H', long)]
    pub(crate) header_up: Vec<String>,
    /// Response header to the client, `Field: value`
    #[arg(short = 'd', long)]
    pub(crate) header_down: Vec<String>,
    /// Log requests
    #[arg(long)]
    pub(crate) access_log: bool,
    /// Log at level debug
    #[arg(short = 'v', long)]
    pub(crate) debug: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Respond {
    /// Status code, or body if it is none
    pub(crate) argument: Option<String>,
    /// Status code
    #[arg(short, long)]
    pub(crate) status: Option<u16>,
    /// Response header, `Field: value`
    #[arg(short = 'H', long)]
    pub(crate) header: Vec<String>,
    /// Body
    #[arg(short, long)]
    pub(crate) body: Option<String>,
    /// Address to listen on; a port range starts one server each
    #[arg(short, long, default_value = ":0")]
    pub(crate) listen: String,
    /// Log requests
    #[arg(long)]
    pub(crate) access_log: bool,
    /// Log at level debug
    #[arg(short = 'v', long)]
    pub(crate) debug: bool,
}
