//! `klaviyo-sandbox`: a small server that behaves like Klaviyo's API, and misbehaves on demand.
//!
//! Two listeners: the API ("Klaviyo"), which can be taken down and which breaks when a fault says so, and the
//! control listener, which always answers. Everything is kept in memory and forgotten at the end.

mod api;
mod batches;
mod bulk;
mod call;
mod campaigns;
mod catalog;
mod check;
mod connection;
mod control;
mod error;
mod faults;
mod filter;
mod flows;
mod intervals;
mod jobs;
mod order;
mod page;
mod rates;
mod receipts;
mod reply;
mod reports;
mod sandbox;
mod server;
mod store;
mod time;
mod tls;
mod uri;
mod webhooks;
mod work;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use mimalloc::MiMalloc;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::bulk::{BulkSettings, Repeats};
use crate::rates::RateSettings;
use crate::sandbox::{Sandbox, Settings};

/// A bulk call is thousands of small allocations that are freed together: the system's allocator spent a quarter of
/// the time on them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A stand-in for Klaviyo's API, for tests, demos and development.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the API ("Klaviyo") listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the control paths (/_sandbox/) listen, always plain HTTP/1.1.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// File to write, once both listeners are bound, with their addresses and the process id as JSON.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// An accepted private API key; repeat for more. Without any, every key that starts with pk_ is accepted.
    #[arg(long)]
    key: Vec<String>,
    /// Whether Klaviyo's rate limits are enforced.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    rates: Switch,
    /// Multiplies the number of requests that each rate window allows.
    #[arg(long, default_value_t = 1.0)]
    count_scale: f64,
    /// Multiplies the length of each rate window.
    #[arg(long, default_value_t = 1.0)]
    window_scale: f64,
    /// Seed of everything random: window phases, the dice of faults, ids. Chosen and printed when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Speak TLS (HTTP/2 and HTTP/1.1) on the API listener, and write the certificate to trust to DIR/ca.pem.
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// Whether receipts keep the bodies of requests.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "true|false")]
    store_bodies: bool,
    /// When a bulk call of events fails that has a unique_id of before: at once, with a 400, or after its 202.
    #[arg(long, value_enum, default_value_t = Repeats::AtOnce, value_name = "at_once|after")]
    bulk_repeats: Repeats,
    /// How long a job is queued, in milliseconds.
    #[arg(long, default_value_t = 100, value_name = "MS")]
    job_queued: u64,
    /// How long a job then takes to process its entries, in milliseconds.
    #[arg(long, default_value_t = 400, value_name = "MS")]
    job_processing: u64,
    /// Whether the import errors of a job name the profile as it was sent, or null.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "true|false")]
    original_payloads: bool,
    /// Allow listeners that other machines can reach.
    #[arg(long)]
    allow_remote: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn main() {
    let arguments = Arguments::parse();
    if let Err(reason) = start(arguments) {
        eprintln!("klaviyo-sandbox: {reason}");
        std::process::exit(1);
    }
}

fn start(arguments: Arguments) -> Result<(), String> {
    for (option, address) in [("--listen", arguments.listen), ("--control", arguments.control)] {
        if !address.ip().is_loopback() && !arguments.allow_remote {
            return Err(format!("{option} {address} is not a loopback address; --allow-remote permits it"));
        }
    }
    let rates = RateSettings {
        enabled: arguments.rates == Switch::On,
        count_scale: arguments.count_scale,
        window_scale: arguments.window_scale,
    };
    rates.check()?;
    // One thread is enough: a request is a few microseconds of work between two system calls.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(run(arguments, rates))
}

async fn run(arguments: Arguments, rates: RateSettings) -> Result<(), String> {
    let tls = arguments
        .tls_dir
        .as_deref()
        .map(tls::acceptor)
        .transpose()
        .map_err(|error| format!("cannot set up TLS: {error}"))?;
    let listener = bind(arguments.listen).await?;
    let control_listener = bind(arguments.control).await?;
    let api_address = address_of(&listener)?;
    let control_url = format!("http://{}", address_of(&control_listener)?);
    let api_url = match tls {
        Some(_) => format!("https://localhost:{}", api_address.port()),
        None => format!("http://{api_address}"),
    };

    let seed = arguments.seed.unwrap_or_else(|| {
        let seed = fastrand::u64(..);
        eprintln!("klaviyo-sandbox: --seed {seed} repeats this run's dice");
        seed
    });
    // Of the ids of errors, which belong to nothing that has dice of its own; there is only this thread.
    fastrand::seed(seed);
    let (door, commands) = mpsc::channel(16);
    let settings = Settings {
        keys: arguments.key,
        store_bodies: arguments.store_bodies,
        api_url: api_url.clone(),
        seed,
        rates,
        bulk: BulkSettings {
            repeats: arguments.bulk_repeats,
            queued_ms: arguments.job_queued,
            processing_ms: arguments.job_processing,
            original_payloads: arguments.original_payloads,
        },
    };
    let sandbox = Arc::new(Sandbox::new(settings, door));

    // Handlers first: whoever reads the ready file may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    if let Some(path) = &arguments.ready_file {
        let ready = json!({"api": api_url, "control": control_url, "pid": std::process::id()});
        write_atomically(path, &format!("{ready}\n"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    println!("klaviyo-sandbox: API on {api_url}, control on {control_url}");

    tokio::select! {
        () = server::serve_api(Arc::clone(&sandbox), listener, api_address, tls, commands) => {}
        () = server::serve_control(sandbox, control_listener) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| error.to_string())
}

/// Writes beside the target and renames, so that a reader who polls for the file never sees half of it.
fn write_atomically(path: &Path, text: &str) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    std::fs::rename(&temporary, path)
}
