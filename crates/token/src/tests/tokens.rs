//! Which tokens are believed, and which are not.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{ED_PRIVATE, ED_PUBLIC, RSA_PRIVATE, RSA_PUBLIC, SECRET};
use super::{claims, hand_made, in_an_hour, one, signer, verifier};
use crate::{Key, Rules, Signer, TokenError, Verifier};

#[test]
fn a_signed_token_names_its_user() {
    let token = Signer::hs256(SECRET).sign(u64::MAX, in_an_hour());
    assert_eq!(Verifier::hs256(SECRET).user(&token), Ok(u64::MAX));
}

#[test]
fn every_other_token_is_refused_with_its_reason() {
    let verifier = Verifier::hs256(SECRET);
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let encode =
        |algorithm, claims: &Value| jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap();
    let hs256 = |claims: Value| encode(Algorithm::HS256, &claims);
    let exp = in_an_hour();
    // {"alg":"none","typ":"JWT"} . {"sub":"1","exp":4102444800} . no signature
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIxIiwiZXhwIjo0MTAyNDQ0ODAwfQ.";
    let critical = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
    let tokens = [
        (Signer::hs256("another secret, as long as the first").sign(1, exp), TokenError::Forged),
        (Signer::hs256(SECRET).sign(1, exp - 7_200), TokenError::Expired),
        (hs256(json!({"sub": "1", "exp": exp, "nbf": exp - 60})), TokenError::NotYet),
        (hs256(json!({"sub": "1", "exp": exp, "nbf": "soon"})), TokenError::Malformed),
        (hs256(json!({"sub": "1"})), TokenError::Incomplete),
        (hs256(json!({"sub": "1", "exp": "never"})), TokenError::Incomplete),
        (unsigned.to_owned(), TokenError::Malformed),
        (hs256(json!({"sub": "-1", "exp": exp})), TokenError::NoUser),
        (encode(Algorithm::HS512, &json!({"sub": "1", "exp": exp})), TokenError::Algorithm),
        (hs256(json!({"exp": exp})), TokenError::Malformed),
        (hand_made(&critical, &claims(), SECRET.as_bytes()), TokenError::Critical),
        (hand_made(&json!({"alg": "HS256", "crit": []}), &claims(), SECRET.as_bytes()), TokenError::Critical),
        (String::new(), TokenError::Malformed),
        ("a.b.c".to_owned(), TokenError::Malformed),
    ];
    for (token, reason) in tokens {
        assert_eq!(verifier.user(&token), Err(reason), "{token}");
    }
}

#[test]
fn a_header_that_is_known_makes_no_token_good() {
    let verifier = Verifier::hs256(SECRET);
    let header = json!({"alg": "HS256"});
    let token = |claims: &Value| hand_made(&header, claims, SECRET.as_bytes());
    let good = token(&claims());
    assert_eq!(verifier.check_shortly(&good), None, "nothing is known yet");
    assert_eq!(verifier.user(&good), Ok(7));
    assert_eq!(verifier.check_shortly(&good).map(|believed| believed.user), Some(7));
    let (exp, now) = (in_an_hour(), jsonwebtoken::get_current_timestamp());
    for (claims, why) in [
        (json!({"sub": "7", "exp": now - 10}), TokenError::Expired),
        (json!({"sub": "7", "exp": exp, "nbf": now + 60}), TokenError::NotYet),
        (json!({"sub": "7", "exp": exp, "nbf": null}), TokenError::Malformed),
        (json!({"sub": "-7", "exp": exp}), TokenError::NoUser),
        (json!({"sub": "7"}), TokenError::Incomplete),
        (json!(["7", exp]), TokenError::Malformed),
    ] {
        assert_eq!(verifier.user(&token(&claims)), Err(why), "{claims}");
    }
    let forged = hand_made(&header, &claims(), b"another secret, as long as the first");
    assert_eq!(verifier.user(&forged), Err(TokenError::Forged));
    assert_eq!(verifier.user(&format!("{good}.")), Err(TokenError::Malformed));
    assert_eq!(verifier.user(&good[..good.len() - 1]), Err(TokenError::Malformed));
}

#[test]
fn clocks_may_differ_by_five_seconds() {
    let (verifier, now) = (Verifier::hs256(SECRET), jsonwebtoken::get_current_timestamp());
    let token = |claims: Value| hand_made(&json!({"alg": "HS256"}), &claims, SECRET.as_bytes());
    assert_eq!(verifier.user(&token(json!({"sub": "7", "exp": now - 2}))), Ok(7));
    assert_eq!(verifier.user(&token(json!({"sub": "7", "exp": now + 60, "nbf": now + 3}))), Ok(7));
    assert_eq!(verifier.user(&token(json!({"sub": "7", "exp": now - 10}))), Err(TokenError::Expired));
}

#[test]
fn several_keys_are_valid_at_once_each_by_its_id_and_its_algorithm() {
    let jwk = crate::generate_hs256("secret-1").unwrap();
    let keys = || {
        vec![
            Key::hs256(SECRET),
            one(ED_PUBLIC, Some("ed-1")),
            one(RSA_PUBLIC, Some("rsa-1")),
            one(&jwk, None),
        ]
    };
    let all = verifier(keys());
    for (id, signer) in [
        ("ed-1", signer(ED_PRIVATE, Some("ed-1"))),
        ("rsa-1", signer(RSA_PRIVATE, Some("rsa-1"))),
        ("secret-1", signer(&jwk, None)),
    ] {
        let token = signer.sign(7, in_an_hour());
        assert_eq!(all.user(&token), Ok(7), "{id}");
        let withdrawn = keys().into_iter().filter(|key| key.id() != Some(id)).collect();
        assert_eq!(verifier(withdrawn).user(&token), Err(TokenError::UnknownKey), "{id}");
    }
    assert_eq!(all.user(&Signer::hs256(SECRET).sign(7, in_an_hour())), Ok(7));
}

#[test]
fn a_token_that_names_no_key_of_the_gateway_is_refused_though_another_key_would_verify_it() {
    let token = signer(ED_PRIVATE, Some("other")).sign(7, in_an_hour());
    let keys = vec![one(ED_PUBLIC, Some("ed-1")), one(ED_PUBLIC, None)];
    assert_eq!(verifier(keys).user(&token), Err(TokenError::UnknownKey));
    let hs = hand_made(&json!({"alg": "HS256", "kid": "x"}), &claims(), SECRET.as_bytes());
    assert_eq!(Verifier::hs256(SECRET).user(&hs), Err(TokenError::UnknownKey));
}

#[test]
fn a_token_that_names_another_key_is_checked_with_that_key_alone() {
    let other = crate::generate_ed25519();
    let keys = vec![one(ED_PUBLIC, Some("a")), one(&other.public, Some("b"))];
    let token = signer(ED_PRIVATE, Some("b")).sign(7, in_an_hour());
    assert_eq!(verifier(keys).user(&token), Err(TokenError::Forged));
}

#[test]
fn a_token_without_a_key_id_is_tried_with_four_keys_of_its_algorithm() {
    let token = signer(ED_PRIVATE, None).sign(7, in_an_hour());
    let others = |count| (0..count).map(|_| one(&crate::generate_ed25519().public, None));
    let right = || one(ED_PUBLIC, Some("ed-1"));
    let fourth = others(3).chain([Key::hs256(SECRET), right()]).collect();
    assert_eq!(verifier(fourth).user(&token), Ok(7));
    let fifth = others(4).chain([right()]).collect();
    assert_eq!(verifier(fifth).user(&token), Err(TokenError::Forged));
}

#[test]
fn a_public_key_is_no_secret_for_hs256() {
    for (public, algorithm) in [(RSA_PUBLIC, "RS256"), (ED_PUBLIC, "EdDSA")] {
        let verifier = verifier(vec![one(public, Some("k"))]);
        let der: Vec<u8> = {
            use rustls_pki_types::pem::PemObject;
            rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes()).unwrap().to_vec()
        };
        for secret in [public.as_bytes(), public.trim_end().as_bytes(), &der] {
            for kid in [json!("k"), Value::Null] {
                let token = |alg: &str| hand_made(&json!({"alg": alg, "kid": kid}), &claims(), secret);
                assert_eq!(verifier.user(&token("HS256")), Err(TokenError::Algorithm), "{public}");
                assert_eq!(verifier.user(&token(algorithm)), Err(TokenError::Forged), "{public}");
            }
        }
    }
}

#[test]
fn issuer_and_audience_are_checked_where_they_are_configured() {
    let rules =
        Rules { issuers: vec!["https://id".into()], audiences: vec!["shop".into(), "seckill".into()] };
    let strict = Verifier::new(vec![Key::hs256(SECRET)], &rules);
    let token = |iss: Value, aud: Value| {
        let mut claims = claims();
        for (name, value) in [("iss", iss), ("aud", aud)] {
            if !value.is_null() {
                claims[name] = value;
            }
        }
        hand_made(&json!({"alg": "HS256"}), &claims, SECRET.as_bytes())
    };
    for (iss, aud, answer) in [
        (json!("https://id"), json!("seckill"), Ok(7)),
        (json!("https://id"), json!(["other", "shop"]), Ok(7)),
        (json!("https://id2"), json!("seckill"), Err(TokenError::Issuer)),
        (json!("https://id"), json!("other"), Err(TokenError::Audience)),
        (json!("https://id"), json!([]), Err(TokenError::Audience)),
        (json!("https://id"), Value::Null, Err(TokenError::Incomplete)),
        (Value::Null, json!("seckill"), Err(TokenError::Incomplete)),
    ] {
        let token = token(iss.clone(), aud.clone());
        assert_eq!(strict.user(&token), answer, "{iss} {aud}");
        assert_eq!(Verifier::hs256(SECRET).user(&token), Ok(7), "{iss} {aud}");
    }
    let own = Signer::hs256(SECRET).with_claims(Some("https://id".into()), Some("shop".into()));
    assert_eq!(strict.user(&own.sign(7, in_an_hour())), Ok(7));
}
