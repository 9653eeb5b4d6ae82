//! Names, scopes and tokens of admins.

use crate::admin::{AdminTokens, Scope};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn refused(text: &str) -> String {
    AdminTokens::read(text).unwrap_err().to_string()
}

#[test]
fn each_admin_has_a_name_and_scopes() {
    let text = format!(
        "# who may do what\n\nshop  sales  token-of-the-shop\nbooks audit,sales sha256:{DIGEST}\n ops_1 all token-of-the-operators\n"
    );
    let tokens = AdminTokens::read(&text).unwrap();
    let found = |token: &str| {
        let admin = tokens.find(token)?;
        Some((admin.name().to_string(), Scope::ALL.map(|scope| admin.may(scope))))
    };
    assert_eq!(found("token-of-the-shop"), Some(("shop".into(), [true, false, false])));
    assert_eq!(found("test"), Some(("books".into(), [true, true, false])), "the digest is that of `test`");
    assert_eq!(found("token-of-the-operators"), Some(("ops_1".into(), [true; 3])));
    for wrong in ["", "token-of-the-sho", "token-of-the-shop ", "TOKEN-OF-THE-SHOP", DIGEST] {
        assert_eq!(found(wrong), None, "{wrong}");
    }
    assert!(!format!("{tokens:?}").contains("digest"));
}

#[test]
fn the_token_of_the_flag_is_named_admin_and_may_do_everything() {
    let tokens = AdminTokens::one("the token of the flag");
    let admin = tokens.find("the token of the flag").unwrap();
    assert_eq!(&**admin.name(), "admin");
    assert!(Scope::ALL.into_iter().all(|scope| admin.may(scope)));
    assert!(AdminTokens::default().find("").is_none());
}

#[test]
fn a_line_that_cannot_be_read_is_named_without_its_token() {
    for (text, part) in [
        ("a sales", "line 1 is not `name scopes token`"),
        ("# a\n\nb sales hunter2-hunter2-hunter2 more", "line 3 is not"),
        ("Shop sales hunter2-hunter2-hunter2", "line 1 has a name"),
        ("shop sale hunter2-hunter2-hunter2", "line 1 has a scope"),
        ("shop sales, hunter2-hunter2-hunter2", "line 1 has a scope"),
        ("shop sales hunter2", "fewer than 16"),
        ("shop sales sha256:hunter2", "64 hexadecimal digits"),
        (
            "a sales hunter2-hunter2-hunter2\na audit hunter2-hunter2-hunter3",
            "line 2 has a name that is there",
        ),
        (
            "a sales hunter2-hunter2-hunter2\nb audit hunter2-hunter2-hunter2",
            "line 2 has a token that is there",
        ),
        ("# nothing\n", "`name scopes token`"),
    ] {
        let message = refused(text);
        assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
    }
    let many: String = (0..101).map(|at| format!("n{at} sales token-of-number-{at}\n")).collect();
    assert_eq!(refused(&many), "line 101 is one token too many: 100 are allowed");
}

#[test]
fn a_file_and_the_flag_together_have_no_name_twice() {
    let file = |name: &str| AdminTokens::read(&format!("{name} sales token-of-somebody")).unwrap();
    let both = AdminTokens::one("the token of the flag").and(file("shop")).unwrap();
    assert!(both.find("token-of-somebody").is_some() && both.find("the token of the flag").is_some());
    assert!(AdminTokens::one("the token of the flag").and(file("admin")).is_err());
}
