use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Config, Error, NoTls, SimpleQueryMessage};

/// A client by tokio-postgres, with what the server told it besides answers.
#[derive(Debug)]
pub struct Client {
    inner: Arc<tokio_postgres::Client>,
    messages: mpsc::UnboundedReceiver<AsyncMessage>,
    task: JoinHandle<()>,
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Runs a simple query and gives its first column's values, `NULL` for null.
    ///
    /// # Errors
    /// The server's.
    pub async fn column(&self, query: &str) -> Result<Vec<String>, Error> {
        let messages = self.inner.simple_query(query).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Runs a simple query and gives these columns of its rows, `NULL` for null.
    ///
    /// # Panics
    /// If it fails.
    pub async fn rows<const N: usize>(&self, query: &str, columns: [&str; N]) -> Vec<[String; N]> {
        let messages = self.inner.simple_query(query).await.expect("an answer");
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| columns.map(|name| row.get(name).unwrap_or("NULL").to_owned()))
            .collect()
    }

    /// Runs a simple query that gives one row, and gives its first value.
    ///
    /// # Panics
    /// If it fails or gives anything else.
    pub async fn one(&self, query: &str) -> String {
        match self.column(query).await {
            Ok(mut rows) if rows.len() == 1 => rows.remove(0),
            other => panic!("{query}: {other:?}"),
        }
    }

    /// Runs a simple query that must fail, and gives its SQLSTATE and message.
    ///
    /// # Panics
    /// If it succeeds, or the connection breaks without an error.
    pub async fn refused(&self, query: &str) -> (String, String) {
        match self.inner.simple_query(query).await {
            Err(error) => told(&error),
            Ok(answer) => panic!("{query} succeeded: {answer:?}"),
        }
    }

    /// Gives a handle to the client for another task.
    pub fn share(&self) -> Arc<tokio_postgres::Client> {
        Arc::clone(&self.inner)
    }

    /// Waits for the next notice or notification; `None` once the connection has ended.
    pub async fn message(&mut self) -> Option<AsyncMessage> {
        self.messages.recv().await
    }

    /// Cuts the connection without a goodbye.
    pub async fn cut(mut self) {
        self.task.abort();
        // The task's end closes the socket.
        let _ = (&mut self.task).await;
    }
}

/// Gives the SQLSTATE and the message of an error of the server.
fn told(error: &Error) -> (String, String) {
    match error.as_db_error() {
        Some(error) => (error.code().code().to_owned(), error.message().to_owned()),
        None => panic!("not a server's error: {error:?}"),
    }
}

/// Connects to a URL or connection string.
///
/// # Panics
/// If it is refused.
pub async fn connect(url: &str) -> Client {
    match try_connect(url).await {
        Ok(client) => client,
        Err((code, message)) => panic!("{url}: {code} {message}"),
    }
}

/// Connects to a URL or connection string.
///
/// # Errors
/// The SQLSTATE and the message of the refusal.
///
/// # Panics
/// If the URL is wrong, or the connection breaks without an error.
pub async fn try_connect(url: &str) -> Result<Client, (String, String)> {
    let config: Config = url.parse().expect("a URL");
    let (client, mut connection) = config.connect(NoTls).await.map_err(|error| told(&error))?;
    let (sender, messages) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        loop {
            let polled = std::future::poll_fn(|cx| connection.poll_message(cx)).await;
            match polled {
                // A test that does not listen has its reasons.
                Some(Ok(message)) => drop(sender.send(message)),
                Some(Err(_)) | None => return,
            }
        }
    });
    Ok(Client {
        inner: Arc::new(client),
        messages,
        task,
    })
}
