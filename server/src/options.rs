//! What an operator decides: where to listen, who may ask, how much.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use logitfuse::{Error, ErrorKind, Result};

use crate::ApiKeys;

/// Where a server listens, who may ask, and how much.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The address. Any but a loopback address needs [`keys`](Self::keys).
    pub address: SocketAddr,
    /// Who may ask; without keys everyone who can reach the address.
    pub keys: ApiKeys,
    /// Names by which a loopback address may be called besides `localhost` and its numbers: what a proxy sends as `Host`.
    pub allowed_hosts: Vec<String>,
    /// Sequences that are decoded at once. Changes no result.
    pub max_batch: usize,
    /// Sequences that may wait; further requests are told to come back.
    pub queue: usize,
    /// What one request may ask for, and how long it may take.
    pub limits: Limits,
    /// Whether the log holds what requests say.
    pub log_requests: bool,
}

/// What one request may ask for, and how long it may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Tokens that one choice may have.
    pub max_tokens: usize,
    /// Prompts of one request.
    pub prompts: usize,
    /// Choices of one prompt.
    pub choices: usize,
    /// Most probable tokens that are listed for a position.
    pub top_logprobs: usize,
    /// Stop strings, and the bytes of each.
    pub stops: usize,
    /// Tokens with a bias.
    pub biases: usize,
    /// Messages of a conversation.
    pub messages: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Time for a request's headers to arrive; a connection that says nothing for as long is closed.
    pub header_timeout: Duration,
    /// Time for a request's body to arrive.
    pub body_timeout: Duration,
    /// Time for an answer to be complete, waiting included.
    pub request_timeout: Duration,
    /// Time for a client to take what was written.
    pub write_timeout: Duration,
    /// Connections that are open at once; further ones wait.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_tokens: 4096,
            prompts: 128,
            choices: 16,
            top_logprobs: 20,
            stops: 16,
            biases: 1024,
            messages: 1024,
            body_bytes: 4 << 20,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_mins(10),
            write_timeout: Duration::from_mins(1),
            connections: 512,
        }
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            keys: ApiKeys::default(),
            allowed_hosts: Vec::new(),
            max_batch: 16,
            queue: 256,
            limits: Limits::default(),
            log_requests: false,
        }
    }
}

impl ServerOptions {
    /// Refuses what would let strangers in, or answer nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], naming the option.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String, help: &str| Err(Error::new(ErrorKind::InvalidConfig, message).with_help(help));
        if self.max_batch == 0 {
            return wrong("max_batch: 0 sequences at once decode nothing".to_owned(), "decode one at least");
        }
        if !self.address.ip().is_loopback() && self.keys.is_empty() {
            return wrong(
                format!("{}: others can reach this address, and there are no API keys", self.address.ip()),
                "name a file of keys with --api-key-file, or listen on 127.0.0.1",
            );
        }
        Ok(())
    }

    /// Sequences that one server holds, waiting and running.
    pub(crate) fn capacity(&self) -> usize {
        // What a semaphore can count.
        self.max_batch.saturating_add(self.queue).min(1 << 20)
    }
}
