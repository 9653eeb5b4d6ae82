//! Input that nobody has thought of: nothing panics, and nothing is believed that no key has signed.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ED_PRIVATE, ED_PUBLIC, RSA_PUBLIC, SECRET, hand_made, one, signer, verifier};
use crate::admin::AdminTokens;
use crate::{Key, Rules, Verifier};

fn all_keys() -> Verifier {
    verifier(vec![Key::hs256(SECRET), one(ED_PUBLIC, Some("ed")), one(RSA_PUBLIC, Some("rsa"))])
}

/// JSON of any shape, with the names that headers, claims and keys have.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "HS256", "EdDSA", "RS256", "none", "ed", "RSA", "OKP", "oct", "Ed25519", "AQAB", "sig"
        ])
        .prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "alg", "kid", "typ", "crit", "jwk", "jku", "b64", "zip", "sub", "exp", "nbf", "iss", "aud", "kty",
        "crv", "x", "n", "e", "k", "use", "key_ops", "keys",
    ]);
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// What may be, or almost be, a claim.
fn claim() -> impl Strategy<Value = Value> {
    let now = jsonwebtoken::get_current_timestamp();
    let values = [
        json!(now + 60),
        json!(now - 60),
        json!(now as f64 + 60.5),
        json!("7"),
        json!("+7"),
        json!("07"),
        json!("\u{e9}7"),
        json!("shop"),
        json!(["shop", "else"]),
        json!("gateway"),
        json!(["gateway"]),
        json!(""),
        Value::Null,
        json!(-1),
        json!({}),
    ];
    prop_oneof![4 => prop::sample::select(values.to_vec()), 1 => json_value()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_text_is_a_token(text in ".{0,200}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let keys = all_keys();
        prop_assert!(keys.user(&text).is_err());
        prop_assert!(keys.user(&parts.join(".")).is_err());
    }

    #[test]
    fn no_header_and_claims_make_a_token_of_another_secret(header in json_value(), claims in json_value()) {
        let secret = b"a secret that no gateway of this test has";
        prop_assert!(all_keys().user(&hand_made(&header, &claims, secret)).is_err());
        let unsigned = format!("{}.{}.", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        prop_assert!(all_keys().user(&unsigned).is_err());
    }

    #[test]
    fn a_signed_token_with_any_header_and_claims_never_panics(header in json_value(), claims in json_value()) {
        let _ = all_keys().user(&hand_made(&header, &claims, SECRET.as_bytes()));
    }

    #[test]
    fn a_verifier_that_knows_the_header_answers_as_one_that_meets_it_first(
        changes in prop::collection::btree_map(prop::sample::select(vec!["sub", "exp", "nbf", "iss", "aud", "x"]), claim(), 0..4),
        end in ".?",
        ruled in any::<bool>(),
    ) {
        let names = |name: &str| if ruled { vec![name.to_owned()] } else { vec![] };
        let rules = Rules { issuers: names("shop"), audiences: names("gateway") };
        let fresh = || Verifier::new(vec![Key::hs256(SECRET)], &rules);
        let plain = json!({"sub": "7", "exp": 4_102_444_800_u64, "iss": "shop", "aud": "gateway"});
        let header = json!({"alg": "HS256"});
        let knows = fresh();
        prop_assert_eq!(knows.user(&hand_made(&header, &plain, SECRET.as_bytes())), Ok(7));
        let mut claims = plain;
        for (name, value) in changes {
            claims[name] = value;
        }
        let token = hand_made(&header, &claims, SECRET.as_bytes()) + &end;
        prop_assert_eq!(knows.check(&token), fresh().check(&token), "{}", claims);
        let forged = hand_made(&header, &claims, b"another secret, as long as the first");
        prop_assert!(knows.check(&forged).is_err());
    }

    #[test]
    fn a_good_token_with_one_byte_changed_is_refused(at in any::<prop::sample::Index>(), byte in "[ -~]") {
        let good = signer(ED_PRIVATE, Some("ed")).sign(7, 4_102_444_800);
        let at = at.index(good.len());
        let mut changed = good.clone();
        changed.replace_range(at..=at, &byte);
        let keys = all_keys();
        prop_assert_eq!(keys.user(&good), Ok(7));
        if changed != good {
            prop_assert!(keys.user(&changed).is_err(), "{}", changed);
        }
    }

    #[test]
    fn no_document_of_keys_panics(text in ".{0,200}", document in json_value(), keys in prop::collection::vec(json_value(), 0..4)) {
        for text in [text, document.to_string(), json!({ "keys": keys }).to_string()] {
            for key in Key::from_jwks(&text).into_iter().flatten() {
                prop_assert!(key.algorithm() != crate::Algorithm::Hs256, "a secret came from an address");
            }
            let _ = (Key::from_file(&text, None), crate::Signer::from_file(&text, Some("x")).is_ok());
        }
    }

    #[test]
    fn a_changed_pem_file_never_panics(at in any::<prop::sample::Index>(), bytes in ".{0,20}") {
        for pem in [ED_PUBLIC, RSA_PUBLIC, ED_PRIVATE] {
            let mut changed = pem.to_owned();
            changed.insert_str(at.index(pem.len()), &bytes);
            let _ = (Key::from_file(&changed, Some("x")), crate::Signer::from_file(&changed, None).is_ok());
        }
    }

    #[test]
    fn no_file_of_admins_panics_and_only_whole_tokens_count(text in "([a-z]{1,3} (sales|all|audit,operate|x) [!-~]{0,20}\n?){0,5}|.{0,200}", token in ".{0,40}") {
        match AdminTokens::read(&text) {
            Ok(tokens) => {
                let whole = text.split_whitespace().any(|word| word == token);
                prop_assert!(whole || tokens.find(&token).is_none());
            }
            Err(error) => prop_assert!(error.to_string().starts_with("line ")),
        }
    }
}
