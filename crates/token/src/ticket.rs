//! Purchase tickets: the proof that a user may order in a sale until a moment. Signing and checking, without any store.
//!
//! A ticket is `KEY.BODY`, both safe in a header and in an address. KEY is the id of the key that has signed it. BODY is the
//! base64url of 28 bytes that say what it is for, and of their HMAC-SHA256.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hkdf, hmac};
use thiserror::Error;

/// The bytes that say what a ticket is for: user 8, sale 8, epoch 4, expiry 8.
const FIELDS: usize = 28;
const MAC: usize = 32;
/// The base64url of both.
const BODY: usize = (FIELDS + MAC).div_ceil(3) * 4;
/// Comes first in what is signed, so that no other use of the key can ever be taken for a ticket.
const DOMAIN: &[u8] = b"seckill ticket 1";

/// What a ticket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Who may order.
    pub user: u64,
    /// In which sale.
    pub sale: u64,
    /// The epoch of the sale's gate when the ticket was handed out.
    pub epoch: u32,
    /// The first moment at which it is not valid any more, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// Why a ticket is not believed, as a sentence for the one who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TicketError {
    /// Not what [`Keys::sign`] writes.
    #[error("This is not a ticket.")]
    Malformed,
    /// Signed with a key that is not known, or not any more.
    #[error("The ticket was signed with a key that this gateway does not know.")]
    UnknownKey,
    /// Changed after it was signed, or never signed.
    #[error("The ticket's signature is wrong.")]
    Forged,
    /// For somebody else.
    #[error("The ticket is another user's.")]
    OtherUser,
    /// For another sale.
    #[error("The ticket is for another sale.")]
    OtherSale,
    /// Its time is over.
    #[error("The ticket has expired.")]
    Expired,
}

/// Why a set of keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeysError {
    /// There is none.
    #[error("there is no key; write a line `ID SECRET`")]
    Empty,
    /// A line is not a key.
    #[error(
        "line {0} is no key: write `ID SECRET`, the id of 1 to 32 letters, digits, - and _, the secret of 32 characters or more"
    )]
    Line(usize),
    /// Two keys of one id.
    #[error("line {0} has the id of an earlier line; each key needs an id of its own")]
    Twice(usize),
}

struct Key {
    id: String,
    key: hmac::Key,
}

/// The keys of a gateway: the first signs, all of them verify. Gateways of one system have the same ones.
pub struct Keys(Vec<Key>);

impl Keys {
    /// Keys that are derived by HKDF-SHA256 from secrets that gateways share anyway. Nobody can find such a secret from the
    /// key, nor use a signature of the one for the other.
    pub fn derived<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        Self(secrets.into_iter().map(derive).collect())
    }

    /// Keys as a file has them: a line `ID SECRET` each; empty lines and lines that begin with `#` do not count.
    ///
    /// # Errors
    /// There is no key, or a line cannot be read.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, secret) = line.split_once(char::is_whitespace).ok_or(KeysError::Line(number))?;
            let secret = secret.trim();
            if !is_id(id) || secret.len() < 32 {
                return Err(KeysError::Line(number));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(KeysError::Twice(number));
            }
            keys.push(Key { id: id.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) });
        }
        if keys.is_empty() { Err(KeysError::Empty) } else { Ok(Self(keys)) }
    }

    /// Signs with the first key.
    pub fn sign(&self, ticket: &Ticket) -> String {
        let Key { id, key } = &self.0[0];
        let fields = ticket.to_bytes();
        let mac = hmac::sign(key, &signed(id, &fields));
        let mut body = [0; FIELDS + MAC];
        body[..FIELDS].copy_from_slice(&fields);
        body[FIELDS..].copy_from_slice(mac.as_ref());
        format!("{id}.{}", URL_SAFE_NO_PAD.encode(body))
    }

    /// What a ticket says, if one of these keys has signed it.
    ///
    /// # Errors
    /// The ticket is not to be believed. Whose it is and until when is not looked at; see [`Ticket::check`].
    pub fn verify(&self, text: &str) -> Result<Ticket, TicketError> {
        let (id, body) = text.split_once('.').ok_or(TicketError::Malformed)?;
        if !is_id(id) || body.len() != BODY {
            return Err(TicketError::Malformed);
        }
        let mut bytes = [0; FIELDS + MAC];
        let length = URL_SAFE_NO_PAD.decode_slice(body, &mut bytes).map_err(|_| TicketError::Malformed)?;
        if length != bytes.len() {
            return Err(TicketError::Malformed);
        }
        let Key { key, .. } = self.0.iter().find(|key| key.id == id).ok_or(TicketError::UnknownKey)?;
        let (fields, mac) = bytes.split_at(FIELDS);
        // In constant time.
        hmac::verify(key, &signed(id, fields), mac).map_err(|_| TicketError::Forged)?;
        Ok(Ticket::from_bytes(fields.try_into().map_err(|_| TicketError::Malformed)?))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

impl Ticket {
    /// Whether this is a valid ticket of `user` in `sale` at the moment `now_ms`, in milliseconds since 1970.
    ///
    /// # Errors
    /// It is not; why not.
    pub fn check(&self, user: u64, sale: u64, now_ms: u64) -> Result<(), TicketError> {
        if self.user != user {
            return Err(TicketError::OtherUser);
        }
        if self.sale != sale {
            return Err(TicketError::OtherSale);
        }
        if now_ms >= self.expires_ms { Err(TicketError::Expired) } else { Ok(()) }
    }

    fn to_bytes(self) -> [u8; FIELDS] {
        let mut bytes = [0; FIELDS];
        bytes[..8].copy_from_slice(&self.user.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sale.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[20..].copy_from_slice(&self.expires_ms.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; FIELDS]) -> Self {
        let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            user: long(0),
            sale: long(8),
            epoch: u32::from_be_bytes(std::array::from_fn(|i| bytes[16 + i])),
            expires_ms: long(20),
        }
    }
}

fn is_id(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn signed(id: &str, fields: &[u8]) -> Vec<u8> {
    // The id's length is in front of it, so that no id can be read as the beginning of the fields.
    let length = u8::try_from(id.len()).expect("an id has 32 characters at the most");
    [DOMAIN, &[length], id.as_bytes(), fields].concat()
}

/// The length of what HKDF gives, for `ring`.
struct Bytes(usize);

impl hkdf::KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(secret: &str) -> Key {
    let id = derived_bytes::<4>(secret, b"ticket key id");
    let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    Key { id, key: derived_key(secret, b"ticket key") }
}

/// A key for HMAC-SHA256 that is derived from `secret` for one use, which `purpose` names.
pub fn derived_key(secret: &str, purpose: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &derived_bytes::<32>(secret, purpose))
}

fn derived_bytes<const N: usize>(secret: &str, purpose: &[u8]) -> [u8; N] {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"seckill").extract(secret.as_bytes());
    let mut bytes = [0; N];
    let purpose = [purpose];
    let output = extracted.expand(&purpose, Bytes(N)).expect("HKDF gives up to 8,160 bytes");
    output.fill(&mut bytes).expect("as many bytes as were asked for");
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const TICKET: Ticket = Ticket { user: u64::MAX, sale: 7, epoch: 3, expires_ms: 1_000 };

    #[test]
    fn a_ticket_reads_back_as_it_was_signed() {
        let text = Keys::derived([SECRET]).sign(&TICKET);
        assert!(text.len() < 96 && text.bytes().all(|b| b.is_ascii_graphic()), "{text}");
        assert_eq!(Keys::derived([SECRET]).verify(&text), Ok(TICKET));
        let body_and_mac_length = text.split_once('.').map(|(_, body)| body.len());
        assert_eq!(body_and_mac_length, Some(BODY));
    }

    #[test]
    fn the_first_key_signs_and_all_verify() {
        let (one, other) = (format!("one {SECRET}1"), format!("other {SECRET}2"));
        let old = Keys::parse(&one).unwrap();
        let both = Keys::parse(&format!("# the new one first\n\n{other}\n{one}\n")).unwrap();
        let new = Keys::parse(&other).unwrap();
        let before = old.sign(&TICKET);
        assert_eq!(both.verify(&before), Ok(TICKET));
        let after = both.sign(&TICKET);
        assert!(after.starts_with("other."));
        assert_eq!(new.verify(&after), Ok(TICKET));
        assert_eq!(new.verify(&before), Err(TicketError::UnknownKey));
        // The same id with another secret.
        assert_eq!(Keys::parse(&format!("one {SECRET}3")).unwrap().verify(&before), Err(TicketError::Forged));
    }

    #[test]
    fn files_that_are_no_keys_say_which_line() {
        for (text, error) in [
            ("", KeysError::Empty),
            ("# nothing\n", KeysError::Empty),
            ("\nid", KeysError::Line(2)),
            ("id short", KeysError::Line(1)),
            ("i.d 0123456789abcdef0123456789abcdef", KeysError::Line(1)),
            ("a 0123456789abcdef0123456789abcdef\na 0123456789abcdef0123456789abcdeg", KeysError::Twice(2)),
        ] {
            assert_eq!(Keys::parse(text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[test]
    fn a_ticket_is_for_one_user_one_sale_and_some_time() {
        assert_eq!(TICKET.check(u64::MAX, 7, 999), Ok(()));
        assert_eq!(TICKET.check(1, 7, 999), Err(TicketError::OtherUser));
        assert_eq!(TICKET.check(u64::MAX, 8, 999), Err(TicketError::OtherSale));
        assert_eq!(TICKET.check(u64::MAX, 7, 1_000), Err(TicketError::Expired));
    }

    #[test]
    fn keys_for_different_uses_differ() {
        let mac = |purpose| hmac::sign(&derived_key(SECRET, purpose), b"x").as_ref().to_vec();
        assert_ne!(mac(b"ticket key"), mac(b"challenge key"));
    }

    proptest! {
        #[test]
        fn no_changed_character_is_believed(at in 0_usize..89, with in "[A-Za-z0-9_.-]") {
            let keys = Keys::derived([SECRET]);
            let text = keys.sign(&TICKET);
            let mut changed = text.clone();
            changed.replace_range(at % text.len()..=at % text.len(), &with);
            prop_assume!(changed != text);
            prop_assert!(keys.verify(&changed).is_err(), "{changed}");
        }

        #[test]
        fn no_changed_bit_is_believed(bit in 0_usize..(FIELDS + MAC) * 8) {
            let keys = Keys::derived([SECRET]);
            let text = keys.sign(&TICKET);
            let (id, body) = text.split_once('.').unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(body).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = format!("{id}.{}", URL_SAFE_NO_PAD.encode(bytes));
            prop_assert_eq!(keys.verify(&changed), Err(TicketError::Forged));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            prop_assert!(Keys::derived([SECRET]).verify(&text).is_err());
        }

        #[test]
        fn every_ticket_reads_back(user: u64, sale: u64, epoch: u32, expires_ms: u64) {
            let (keys, ticket) = (Keys::derived([SECRET]), Ticket { user, sale, epoch, expires_ms });
            prop_assert_eq!(keys.verify(&keys.sign(&ticket)), Ok(ticket));
        }
    }
}
