//! The way to a local sandbox's hand: a socket and a token in its folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use remuda_actors::ids::CallId;
use remuda_actors::ports::{CallReply, CallRequest, Hand, HandError, HandHealth, ProviderError};
use secrecy::SecretString;
use tokio::sync::OnceCell;

use crate::hand::client::HandClient;
use crate::launch::{Folder, keeper};

/// A local sandbox's hand. Reads the token, and who is the hand, when it is first asked for something, and keeps it.
#[derive(Debug)]
pub(super) struct LocalHand {
    folder: Result<PathBuf, String>,
    client: OnceCell<HandClient>,
}

impl LocalHand {
    pub(super) fn new(folder: Result<PathBuf, ProviderError>) -> Self {
        Self { folder: folder.map_err(|error| error.to_string()), client: OnceCell::new() }
    }

    pub(super) async fn client(&self) -> Result<&HandClient, HandError> {
        let open = async || {
            let folder = self.folder.as_ref().map_err(|what| HandError::Unreachable(what.clone().into()))?;
            client(folder).map_err(|error| HandError::Unreachable(error.into()))
        };
        self.client.get_or_try_init(open).await
    }
}

/// The way to the hand of the sandbox in a folder.
pub(super) fn client(folder: &Path) -> io::Result<HandClient> {
    let folder = Folder(folder);
    let token = fs::read_to_string(folder.token())?;
    // Its tools may be able to take the place of its socket, but not of the process.
    let hand = keeper(folder)?.and_then(|keeper| keeper.first);
    let hand = hand.ok_or_else(|| io::Error::other("the sandbox has ended"))?;
    Ok(HandClient::unix_of(folder.socket(), hand).with_token(&SecretString::from(token)))
}

#[async_trait]
impl Hand for LocalHand {
    async fn call(&self, request: &CallRequest) -> Result<CallReply, HandError> {
        Hand::call(self.client().await?, request).await
    }

    async fn cancel(&self, call: &CallId, reason: &str) -> Result<(), HandError> {
        Hand::cancel(self.client().await?, call, reason).await
    }

    async fn health(&self) -> Result<HandHealth, HandError> {
        Hand::health(self.client().await?).await
    }
}
