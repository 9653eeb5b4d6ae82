//! The keys that buyers' tokens are checked with, and where they come from: one shared secret, files, an address.
//!
//! A request reads the newest set of keys without a lock. Whoever finds other keys puts a whole new set in its place.

mod files;
mod jwks;
mod remembered;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, OptionFuture};
use seckill_token::{Key, Rules, TokenError, Verifier};
use secrecy::{ExposeSecret, SecretString};

pub use files::KeyFile;
use files::KeyFiles;
pub use jwks::JwksConfig;
use jwks::{Jwks, Refreshed};
use remembered::Remembered;

/// Where the keys come from. Every source may be absent; without any, no token is believed.
#[derive(Clone, Default)]
pub struct KeySources {
    /// Signs and checks by HS256, 32 bytes or more. It has no key id.
    pub secret: Option<SecretString>,
    /// Files and folders, looked at every two seconds.
    pub files: Vec<KeyFile>,
    /// An address of a JWKS.
    pub jwks: Option<JwksConfig>,
    /// What a token must say beside its signature.
    pub rules: Rules,
}

/// Why keys cannot be used, as a whole sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or folder of `--jwt-key-file`.
    #[error("{0}")]
    File(String),
    /// The address of `--jwks-url`.
    #[error("{0}")]
    Address(String),
}

/// Why a buyer is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotBelieved {
    /// The token is not to be believed.
    Token(TokenError),
    /// Nobody knows: the token names a key that may be at the address, which does not answer.
    KeysAway,
}

impl From<TokenError> for NotBelieved {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

/// The keys of each source, in the order in which they are tried.
#[derive(Default)]
struct Found {
    secret: Option<Key>,
    files: Vec<Key>,
    jwks: Vec<Key>,
}

/// Checks buyers' tokens with the newest keys of all sources.
pub struct BuyerKeys {
    verifier: ArcSwap<Verifier>,
    /// Counts the verifiers. Read before the verifier is used, and changed after it was replaced: so what is remembered was checked with
    /// the verifier of its generation or a later one.
    generation: AtomicU64,
    remembered: Remembered,
    rules: Rules,
    /// Only those who found new keys take it, never a request.
    found: Mutex<Found>,
    files: Option<KeyFiles>,
    jwks: Option<Jwks>,
}

impl BuyerKeys {
    /// One shared secret and nothing else.
    pub fn hs256(secret: &SecretString) -> Arc<Self> {
        let secret = Key::hs256(secret.expose_secret());
        Arc::new(Self::new(Found { secret: Some(secret), ..Found::default() }, Rules::default(), None, None))
    }

    /// Reads the files. The address is asked by [`Self::keep_current`], and a gateway may start while it is away.
    ///
    /// # Errors
    /// A file cannot be read or has no usable key, or the address cannot be asked.
    pub fn open(sources: KeySources) -> Result<Arc<Self>, SourceError> {
        let KeySources { secret, files, jwks, rules } = sources;
        let secret = secret.map(|secret| Key::hs256(secret.expose_secret()));
        let files = (!files.is_empty()).then(|| KeyFiles::open(files)).transpose()?;
        let jwks = jwks.map(Jwks::new).transpose()?;
        let from_files = files.as_ref().map(KeyFiles::keys).unwrap_or_default();
        let found = Found { secret, files: from_files, ..Found::default() };
        Ok(Arc::new(Self::new(found, rules, files, jwks)))
    }

    fn new(found: Found, rules: Rules, files: Option<KeyFiles>, jwks: Option<Jwks>) -> Self {
        let verifier = ArcSwap::from_pointee(found.verifier(&rules));
        Self {
            verifier,
            generation: AtomicU64::new(0),
            remembered: Remembered::new(),
            rules,
            found: Mutex::new(found),
            files,
            jwks,
        }
    }

    /// Looks at files and address again and again; never returns.
    // Boxed, because the client of the address is large.
    pub(crate) fn keep_current(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.look_again_and_again())
    }

    async fn look_again_and_again(&self) {
        let files =
            self.files.as_ref().map(|files| files.watch(|keys| self.change(|found| found.files = keys)));
        let jwks =
            self.jwks.as_ref().map(|jwks| jwks.keep_current(|keys| self.change(|found| found.jwks = keys)));
        tokio::join!(OptionFuture::from(files), OptionFuture::from(jwks), std::future::pending::<()>());
    }

    fn change(&self, change: impl FnOnce(&mut Found)) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut found);
        let verifier = found.verifier(&self.rules);
        let ids: Vec<_> = verifier.keys().iter().filter_map(Key::id).collect();
        tracing::info!(
            keys = verifier.keys().len(),
            ?ids,
            "buyers' tokens are checked with these keys from now on"
        );
        self.verifier.store(Arc::new(verifier));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The user whom a token names. A token of a known key, or without a key id, never waits. One that names an unknown key waits for
    /// the address, if there is one and it has not been asked in the last ten seconds.
    pub(crate) async fn user(&self, token: &str) -> Result<u64, NotBelieved> {
        let answer = self.checked(token);
        let (Err(TokenError::UnknownKey | TokenError::Algorithm), Some(jwks)) = (answer, &self.jwks) else {
            return Ok(answer?);
        };
        // With keys from the address at hand, a wrong algorithm is wrong; without them, its key may be there.
        if answer == Err(TokenError::Algorithm) && jwks.is_known() {
            return Ok(answer?);
        }
        match jwks.refresh().await {
            Refreshed::Done => Ok(self.verifier.load().user(token)?),
            Refreshed::JustBefore => Ok(answer?),
            Refreshed::Away => Err(NotBelieved::KeysAway),
        }
    }
}

impl BuyerKeys {
    /// The user whom a token names, from memory where the check is expensive and it came before.
    fn checked(&self, token: &str) -> Result<u64, TokenError> {
        let generation = self.generation.load(Ordering::Acquire);
        let verifier = self.verifier.load();
        if let Some(believed) = verifier.check_shortly(token) {
            return Ok(believed.user);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some(believed) = self.remembered.get(token, generation, now) {
            return Ok(believed.user);
        }
        let believed = verifier.check_wholly(token)?;
        self.remembered.put(token, believed, generation);
        Ok(believed.user)
    }
}

impl Found {
    fn verifier(&self, rules: &Rules) -> Verifier {
        let mut keys: Vec<Key> = self.secret.iter().chain(&self.files).cloned().collect();
        for key in &self.jwks {
            // What is in a file was put there by hand, and comes first.
            if !keys.iter().any(|known| known.is_named_like(key)) {
                keys.push(key.clone());
            }
        }
        Verifier::new(keys, rules)
    }
}
