//! Admins: each has a token with a name and scopes. What is kept of a token is its SHA-256.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ring::digest::{SHA256, digest};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

/// The shortest token, in characters.
pub const MIN_TOKEN_CHARS: usize = 16;
/// Tokens of one gateway, at the most: each request with an admin's token is compared with all of them.
const MAX_TOKENS: usize = 100;
const MAX_NAME: usize = 40;

/// What an admin may do. A route needs one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Open and change sales.
    Sales,
    /// Read what is not for everyone: all orders of a sale, effects, anybody's order.
    Audit,
    /// Repair, decide, and turn the controls: rebuild, reconcile, parked messages, outbox, subscribers, refunds, money.
    Operate,
}

impl Scope {
    /// Every scope there is.
    pub const ALL: [Self; 3] = [Self::Sales, Self::Audit, Self::Operate];

    /// As files and refusals name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sales => "sales",
            Self::Audit => "audit",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One admin: a name for the log, and what it may do.
#[derive(Clone)]
pub struct Admin {
    name: Arc<str>,
    scopes: Vec<Scope>,
    digest: [u8; 32],
}

/// Shows no digest.
impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Its name, for the log.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it may do what needs `scope`.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// What is wrong with a line of the file of admin tokens. It never shows a token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} {what}")]
pub struct AdminFileError {
    line: usize,
    what: &'static str,
}

/// The tokens of all admins.
#[derive(Debug, Clone, Default)]
pub struct AdminTokens {
    admins: Vec<Admin>,
}

impl AdminTokens {
    /// One token, named `admin`, with every scope. Its length is not checked here.
    pub fn one(token: &str) -> Self {
        let digest = sha256(token);
        Self { admins: vec![Admin { name: "admin".into(), scopes: Scope::ALL.to_vec(), digest }] }
    }

    /// Reads lines of `name scopes token`. Scopes are separated by commas, or `all`; in place of the token there may be its SHA-256, as
    /// `sha256:` and 64 hexadecimal digits. Empty lines and lines that begin with `#` do not count.
    ///
    /// # Errors
    /// The first line that cannot be read; a name or a token that is there twice; more than 100 tokens; none.
    pub fn read(text: &str) -> Result<Self, AdminFileError> {
        let mut tokens = Self::default();
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        for (line, content) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let added = admin(content).and_then(|admin| tokens.add(admin));
            added.map_err(|what| AdminFileError { line, what })?;
        }
        if tokens.is_empty() {
            return Err(AdminFileError { line: 1, what: "and all others hold no `name scopes token`" });
        }
        Ok(tokens)
    }

    /// Both.
    ///
    /// # Errors
    /// The end of a sentence: a name or a token is there twice, or there are too many.
    pub fn and(mut self, other: Self) -> Result<Self, &'static str> {
        other.admins.into_iter().try_for_each(|admin| self.add(admin)).map(|()| self)
    }

    fn add(&mut self, new: Admin) -> Result<(), &'static str> {
        if self.admins.iter().any(|admin| admin.name == new.name) {
            return Err("has a name that is there already");
        }
        if self.admins.iter().any(|admin| admin.digest == new.digest) {
            return Err("has a token that is there already");
        }
        if self.admins.len() == MAX_TOKENS {
            return Err("is one token too many: 100 are allowed");
        }
        self.admins.push(new);
        Ok(())
    }

    /// Whether there is no admin.
    pub fn is_empty(&self) -> bool {
        self.admins.is_empty()
    }

    /// The admin whose token this is. How long it takes says nothing about the tokens.
    pub fn find(&self, token: &str) -> Option<&Admin> {
        let given = sha256(token);
        let (mut found, mut index) = (Choice::from(0), 0_u64);
        for (at, admin) in (0..).zip(&self.admins) {
            let same = admin.digest.ct_eq(&given);
            index.conditional_assign(&at, same);
            found |= same;
        }
        let admin = usize::try_from(index).ok().and_then(|index| self.admins.get(index));
        admin.filter(|_| bool::from(found))
    }
}

fn sha256(token: &str) -> [u8; 32] {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn admin(line: &str) -> Result<Admin, &'static str> {
    let mut parts = line.split_whitespace();
    let (Some(name), Some(scopes), Some(token), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("is not `name scopes token`");
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.len() > MAX_NAME || !name.chars().all(plain) {
        return Err("has a name that is not 1 to 40 of the characters a-z, 0-9, - and _");
    }
    let named = |name| Scope::ALL.into_iter().find(|scope| scope.name() == name);
    let scopes = match scopes {
        "all" => Some(Scope::ALL.to_vec()),
        list => list.split(',').map(named).collect(),
    };
    let scopes = scopes.ok_or("has a scope that is none of sales, audit, operate and all")?;
    let digest = match token.strip_prefix("sha256:") {
        Some(digits) => from_hex(digits).ok_or("has a `sha256:` without 64 hexadecimal digits")?,
        None if token.len() < MIN_TOKEN_CHARS => return Err("has a token of fewer than 16 characters"),
        None => sha256(token),
    };
    Ok(Admin { name: name.into(), scopes, digest })
}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Who acts in a request, for the one line that the log has of each change. Whoever checks the token writes the name; whoever logs
/// puts this into the request's extensions before, and reads it afterwards.
#[derive(Debug, Clone, Default)]
pub struct Acting(Arc<OnceLock<Arc<str>>>);

impl Acting {
    /// Writes the name, once.
    pub fn is(&self, name: &Arc<str>) {
        let _ = self.0.set(Arc::clone(name));
    }

    /// The name; `None`: no admin acts here.
    pub fn name(&self) -> Option<&str> {
        self.0.get().map(|name| &**name)
    }
}
