//! The buyers' bearer tokens, ready to be put into a header. How a token is made is the caller's affair.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::error::Error;
use crate::plan::schedule::Plan;

const SCHEME: &[u8] = b"Bearer ";

/// One bearer token a buyer. All of them lie in one piece of memory, so that a million tokens cost little more than
/// their text and a request copies none of it. Cloning is cheap.
#[derive(Clone)]
pub struct Tokens {
    text: Bytes,
    /// Where each buyer's header value ends, and the next one begins.
    ends: Arc<[usize]>,
}

impl Tokens {
    /// The tokens of a list: the first one is buyer 0's.
    ///
    /// # Errors
    /// [`Error::Token`] for one that no header can carry.
    pub fn from_list<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        let mut text = Vec::new();
        let mut ends = Vec::new();
        for (buyer, token) in tokens.into_iter().enumerate() {
            let token = token.as_ref().as_bytes();
            if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
                return Err(Error::Token { buyer });
            }
            text.extend_from_slice(SCHEME);
            text.extend_from_slice(token);
            ends.push(text.len());
        }
        Ok(Self { text: text.into(), ends: ends.into() })
    }

    /// One token for every buyer whom the plan may need, made from the user id now, so that signing does not slow the run.
    ///
    /// # Errors
    /// [`Error::Token`] for one that no header can carry.
    pub fn sign(plan: &Plan, token_of: impl Fn(u64) -> String) -> Result<Self, Error> {
        Self::from_list((0..plan.comers()).map(|buyer| token_of(plan.first_user.saturating_add(buyer))))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The `Authorization` header of one buyer.
    ///
    /// # Panics
    /// When there is no such buyer.
    pub(crate) fn header(&self, buyer: u32) -> HeaderValue {
        let buyer = buyer as usize;
        let begin = if buyer == 0 { 0 } else { self.ends[buyer - 1] };
        let value = self.text.slice(begin..self.ends[buyer]);
        HeaderValue::from_maybe_shared(value).expect("only visible ASCII was taken into the list")
    }
}

impl std::fmt::Debug for Tokens {
    /// Tells how many there are, never what they are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buyer_has_their_own_header() {
        let tokens = Tokens::from_list(["a", "bc", "d.e-f_"]).unwrap();
        let headers: Vec<_> = (0..3).map(|buyer| tokens.header(buyer)).collect();
        assert_eq!(headers, ["Bearer a", "Bearer bc", "Bearer d.e-f_"]);
        assert_eq!(format!("{tokens:?}"), "Tokens(3)");
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        for bad in ["", "a b", "a\n", "ä"] {
            assert!(matches!(Tokens::from_list(["ok", bad]), Err(Error::Token { buyer: 1 })), "{bad:?}");
        }
    }
}
