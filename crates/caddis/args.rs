//! The command line (spec A041–A066): Caddy's commands and flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::report::Format;

/// A web server and reverse proxy that runs the Caddyfile people already have
///
/// `caddis run` serves what ./Caddyfile says, or the file that --config names, in the foreground;
/// `caddis start` does the same in the background until `caddis stop`. `caddis reload` gives the
/// running server a changed file without losing a request.
///
/// Files named Caddyfile or *.caddyfile are Caddyfiles, others Caddy's JSON unless --adapter says
/// otherwise. The running server is told what to do over its admin endpoint, localhost:2019 unless
/// the config (`admin`) or the variable CADDY_ADMIN says otherwise.
///
/// file-server, reverse-proxy and respond need no config file and have no admin endpoint.
#[derive(Debug, Parser)]
#[command(
    name = "caddis",
    version = version(),
    disable_help_subcommand = false,
    disable_version_flag = true,
    verbatim_doc_comment,
    after_long_help = "Examples:\n  caddis run\n  caddis run --config caddy.json\n  caddis check\n  caddis reload --config caddy.json\n  caddis stop\n\nExit codes: 0 success, 1 failed or could not start, 2 forced to quit, 3 failed half-way."
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
    ///
    /// Serves until it is stopped: by `caddis stop`, SIGTERM or SIGINT (at once by a second SIGINT
    /// or SIGQUIT). SIGUSR1 reads the file again, unless the config was changed over the admin
    /// endpoint since.
    ///
    /// Without --config, ./Caddyfile is the config; without that, the server starts with an empty
    /// one and waits for the admin endpoint to give it another.
    #[command(verbatim_doc_comment)]
    Run(Run),
    /// Starts the server in the background
    ///
    /// Returns when the server serves what the config says, or with exit code 1 when it does not.
    #[command(verbatim_doc_comment)]
    Start(Start),
    /// Stops the running server
    ///
    /// Asks the admin endpoint, whose address is --address, else that of the config, else the
    /// default. Requests under way are finished.
    #[command(verbatim_doc_comment)]
    Stop(Client),
    /// Shows the certificates of the running server
    ///
    /// Names, issuers, times and last errors, as the admin endpoint tells them.
    #[command(verbatim_doc_comment)]
    Certs(Certs),
    /// Puts the root of a local authority into the trust stores
    ///
    /// Asks the running server for the root, else takes it from the default storage. Trust stores
    /// are those of the system, of browsers and of Java; the system's may need root.
    #[command(verbatim_doc_comment)]
    Trust(Trust),
    /// Takes the root of a local authority out of the trust stores
    ///
    /// The root is that of the file, else that which `caddis trust` would install. Files in the
    /// storage stay.
    #[command(verbatim_doc_comment)]
    Untrust(Untrust),
    /// Changes the config of the running server
    ///
    /// Adapts the config here, and gives it to the admin endpoint, whose address is --address, else
    /// that of this config, else the default. When the config is refused, the old one stays in
    /// force and the exit code is 1.
    #[command(verbatim_doc_comment)]
    Reload(Reload),
    /// Finds every mistake in a config
    ///
    /// Does everything that `run` does before it opens ports, and tells all mistakes with their
    /// places, and what is most likely one. Exit code 1 if there is a mistake.
    #[command(visible_alias = "validate", verbatim_doc_comment)]
    Check(Check),
    /// Tells what becomes of a request
    ///
    /// Which listener and site take it, which routes match and why, and what answers; nothing is
    /// opened or sent.
    #[command(verbatim_doc_comment)]
    Explain(Explain),
    /// Adapts a config to JSON
    ///
    /// The JSON goes to standard output, warnings and mistakes to standard error. Nothing is
    /// loaded.
    #[command(verbatim_doc_comment)]
    Adapt(Adapt),
    /// Formats a Caddyfile
    ///
    /// Prints the file with its indentation and blank lines put right; exit code 1 if that changes
    /// anything. Standard input (`-`) is printed formatted with exit code 0.
    #[command(verbatim_doc_comment)]
    Fmt(Fmt),
    /// Prints the version
    Version,
    /// Prints how the program was built
    BuildInfo,
    /// Prints the environment
    ///
    /// Folders, facts of the system, and all variables as the server would see them. They may hold
    /// secrets.
    #[command(verbatim_doc_comment)]
    Environ(Environ),
    /// Lists the modules
    ListModules(ListModules),
    /// Exports or imports the storage of a config
    ///
    /// Certificates, keys and accounts as a tar archive, for another machine or another storage:
    ///
    ///   caddis storage export -c old.json -o - | caddis storage import -c new.json -i -
    #[command(subcommand, verbatim_doc_comment)]
    Storage(StorageCommand),
    /// Hashes a password
    ///
    /// For `basic_auth`. Without --plaintext the password is typed twice, unseen, or read as the
    /// first line of standard input.
    #[command(verbatim_doc_comment)]
    HashPassword(HashPassword),
    /// Serves files
    ///
    /// On port 80, or with --domain on port 443 with a certificate. Answers are compressed (zstd,
    /// gzip); folders without an index file are listed with --browse.
    #[command(verbatim_doc_comment)]
    FileServer(FileServer),
    /// Proxies to upstreams
    ///
    /// --from is served over HTTPS where it names a host, unless its scheme or port is that of
    /// HTTP; upstreams are asked over HTTP unless they have the scheme https. Several --to share
    /// the requests.
    #[command(verbatim_doc_comment)]
    ReverseProxy(ReverseProxy),
    /// Answers every request with the same response
    ///
    /// A last word that is a three-digit number is the status, another one the body. The body may
    /// also come through a pipe, and may be a template with {{.N}} (the number of the server),
    /// {{.Port}} and {{.Address}}. The addresses that answer are printed.
    #[command(verbatim_doc_comment)]
    Respond(Respond),
    /// Writes the manual pages
    Manpage(Manpage),
    /// Prints a completion script
    ///
    /// For this session of bash: source <(caddis completion bash)
    #[command(verbatim_doc_comment)]
    Completion(Completion),
    /// Tells how to get a newer version
    Upgrade(Packages),
    /// Tells how plugins are added
    AddPackage(Packages),
    /// Tells how plugins are removed
    RemovePackage(Packages),
}

#[derive(Debug, Args)]
pub(crate) struct Packages {
    /// Packages, as Caddy's commands take them
    pub(crate) packages: Vec<String>,
    /// Taken and without effect
    #[arg(short, long)]
    pub(crate) keep_backup: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Manpage {
    /// Folder for the pages; made where it is missing
    #[arg(short = 'o', long, default_value = "", hide_default_value = true)]
    pub(crate) directory: String,
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

impl Config {
    /// The file that was named; an empty name is none.
    pub(crate) fn file(&self) -> Option<&str> {
        self.config.as_deref().filter(|name| !name.is_empty())
    }

    /// The adapter that was named; an empty name is none.
    pub(crate) fn adapter(&self) -> Option<&str> {
        self.adapter.as_deref().filter(|name| !name.is_empty())
    }
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
    /// Write the process id to this file; it is removed at the end
    #[arg(long)]
    pub(crate) pidfile: Option<String>,
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
    /// Write the process id to this file; it is removed at the end
    #[arg(long)]
    pub(crate) pidfile: Option<String>,
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
    /// The id of the authority (`local` if none is given)
    #[arg(long)]
    pub(crate) ca: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Untrust {
    #[command(flatten)]
    pub(crate) client: Client,
    /// The id of the authority (`local` if none is given)
    #[arg(long)]
    pub(crate) ca: Option<String>,
    /// File of the root certificate; goes with no other flag
    #[arg(short = 'p', long)]
    pub(crate) cert: Option<String>,
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
    /// The file (`Caddyfile` if none is given); `-` is standard input
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// The file, once more
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) config: String,
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
    /// Cost of bcrypt, 4 to 31; any other is the default
    #[arg(long, default_value_t = 14)]
    pub(crate) bcrypt_cost: i64,
    /// Iterations of argon2id
    #[arg(long, default_value_t = 1)]
    pub(crate) argon2id_time: u32,
    /// Memory of argon2id in KiB
    #[arg(long, default_value_t = 47104)]
    pub(crate) argon2id_memory: u32,
    /// Threads of argon2id
    #[arg(long, default_value_t = 1)]
    pub(crate) argon2id_threads: u8,
    /// Key length of argon2id in bytes
    #[arg(long, default_value_t = 32)]
    pub(crate) argon2id_keylen: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FileServerCommand {
    /// Prints the template of listings, to start your own from
    ExportTemplate,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct FileServer {
    #[command(subcommand)]
    pub(crate) command: Option<FileServerCommand>,
    /// Domain name; makes the server use HTTPS on port 443
    #[arg(short, long)]
    pub(crate) domain: Option<String>,
    /// Root of the site (the folder that this runs in if none is given)
    #[arg(short, long)]
    pub(crate) root: Option<String>,
    /// Address to listen on (`:80`, with --domain `:443`, if none is given)
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
    /// Kinds of precompressed files to serve (br, zstd, gzip), the best first
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
    /// Do not verify upstream certificates; whoever is between may read along
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
    /// Status code if it is a three-digit number, else the body
    #[arg(value_name = "BODY|STATUS")]
    pub(crate) arguments: Vec<String>,
    /// Status code (200 if none is given)
    #[arg(short, long)]
    pub(crate) status: Option<i64>,
    /// Response header, `Field: value`
    #[arg(short = 'H', long)]
    pub(crate) header: Vec<String>,
    /// Body
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) body: String,
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
