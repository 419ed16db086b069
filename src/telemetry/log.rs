//! What is written to standard error: one event a line, whatever the values hold.
//!
//! Names and texts come from clients, so control characters and line separators in them are escaped: a line of the
//! log is always one event, and a terminal that shows it is not steered by it. Secrets are not known here; types
//! that hold one must not show it in their Debug form.

mod escape;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use escape::Escaped;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level filter cannot be read.
    #[error("log level: {0}")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Logging was set up before.
    #[error("logging: {0}")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Writes the events of this process to standard error from now on. `filter` is a level or `tracing` directives
/// such as `info,pgherd_pool=debug`.
///
/// # Errors
/// When the filter cannot be read, or logging was set up before.
pub fn init(format: Format, filter: &str) -> Result<(), LogError> {
    let subscriber = subscriber(format, filter, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(LogError::Twice)
}

/// As [`init`], to any writer and for the caller to install.
///
/// # Errors
/// When the filter cannot be read.
pub fn subscriber<M, W>(
    format: Format,
    filter: &str,
    writer: M,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    M: Fn() -> W + Send + Sync + 'static,
    W: Write + 'static,
{
    let named = filter.contains(ACTOR_CRATE);
    let mut filter = EnvFilter::try_new(filter).map_err(LogError::Filter)?;
    if !named {
        // Its span for each actor would cost every idle client memory, and says nothing.
        let quiet = format!("{ACTOR_CRATE}=warn");
        filter = filter.add_directive(quiet.parse().map_err(LogError::Filter)?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Lines(writer));
    Ok(match format {
        Format::Text => Box::new(builder.finish()),
        Format::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
}

/// The crate that makes a span for each actor.
const ACTOR_CRATE: &str = "ractor";

/// Makes a writer an event. The formatter hands each event over in one piece.
struct Lines<M>(M);

impl<'a, M, W> MakeWriter<'a> for Lines<M>
where
    M: Fn() -> W + 'static,
    W: Write + 'static,
{
    type Writer = Escaped<W>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(self.0())
    }
}
