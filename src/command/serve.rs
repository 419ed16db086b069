//! Serving, until a signal ends it.

use pgherd_actors::{Curtain, Ending, Notice, Outcome, Proxy};
use pgherd_config::{Config, LoadInput, Loaded};
use pgherd_telemetry::log::Format;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, Serving, descriptors};

/// Serves as the arguments say.
pub(crate) fn run(serving: Serving) -> Result<(), Failure> {
    let input = serving.input();
    let loaded = load(&input)?;
    let (limits, pool) = (&loaded.config.limits, &loaded.config.pool);
    let servers = limits.max_connections.unwrap_or(pool.size).get();
    descriptors::make_room(limits.max_clients.get().saturating_add(servers));
    let runtime = runtime()?;
    let curtain = Curtain::default();
    runtime.block_on(async {
        // Before anybody can find out that it listens: who then sends one must not kill it.
        let signals = Signals::register()?;
        let proxy = bind(loaded, input, curtain.clone())?;
        signals.obey(&proxy, curtain);
        serve(proxy).await
    })
}

/// Reads a configuration and sets up the log that it asks for.
fn load(input: &LoadInput) -> Result<Loaded, Failure> {
    let loaded =
        Config::load(input).map_err(|faults| Failure::Configuration(faults.to_string()))?;
    if loaded.config.databases.is_empty() {
        return Err(Failure::Configuration(
            "no server is named: give a URL, set DATABASE_URL, or write a file and give it by \
             --config (see pgherd --help)"
                .to_owned(),
        ));
    }
    for sharded in loaded.config.sharded.values() {
        pgherd_actors::shards::placement(sharded)
            .map_err(|error| Failure::Configuration(error.to_string()))?;
    }
    let log = &loaded.config.log;
    let format = match log.format {
        pgherd_config::LogFormat::Text => Format::Text,
        pgherd_config::LogFormat::Json => Format::Json,
    };
    pgherd_telemetry::log::init(format, &log.level)
        .map_err(|error| Failure::Configuration(format!("log: {error}")))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}

/// The runtime of the control plane: one thread, which a busy data plane does not delay.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unavailable(format!("cannot start: {error}")))
}

/// Binds what the configuration names.
pub(crate) fn bind(loaded: Loaded, input: LoadInput, curtain: Curtain) -> Result<Proxy, Failure> {
    let proxy = Proxy::bind(loaded.config, input, curtain)
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    for address in proxy.addresses() {
        tracing::info!(%address, "listening");
    }
    for path in proxy.paths() {
        tracing::info!(path = %path.display(), "listening");
    }
    Ok(proxy)
}

/// Runs a proxy to its end.
pub(crate) async fn serve(proxy: Proxy) -> Result<(), Failure> {
    match proxy.run().await {
        Outcome::Ended => Ok(()),
        Outcome::BeyondRepair(what) => Err(Failure::Software(format!(
            "a part is beyond repair: {what}"
        ))),
    }
}

/// The signals that an operator sends.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Keeps them from ending the process, from now on.
    fn register() -> Result<Self, Failure> {
        let of = |kind| {
            signal(kind)
                .map_err(|error| Failure::Unavailable(format!("cannot watch signals: {error}")))
        };
        Ok(Self {
            hangup: of(SignalKind::hangup())?,
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            quit: of(SignalKind::quit())?,
        })
    }

    /// SIGHUP reloads; SIGTERM and SIGINT drain, behind `drain.delay` if there is one, which a second one ends, and the next one
    /// ends all at once; SIGQUIT ends at once.
    fn obey(self, proxy: &Proxy, curtain: Curtain) {
        let Self {
            mut hangup,
            mut terminate,
            mut interrupt,
            mut quit,
        } = self;
        let facts = std::sync::Arc::clone(proxy.facts());
        // Apart from the others: a reload may take its time, and the end does not wait for it.
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                pgherd_actors::config::reload(&facts).await;
            }
        });
        let mut notice = Notice::new(std::sync::Arc::clone(proxy.facts()), curtain.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => notice.signal(),
                    _ = interrupt.recv() => notice.signal(),
                    _ = quit.recv() => curtain.ask(Ending::AtOnce),
                    () = notice.expire() => {}
                }
            }
        });
    }
}
