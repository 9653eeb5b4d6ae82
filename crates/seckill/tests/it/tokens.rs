//! Who may buy and who may administer, as operators set it up: keys and their rotation, admins with scopes, starts that are refused, and
//! no secret in any log.

use std::fs;
use std::path::Path;

use seckill_testkit::eventually;
use seckill_token::Signer;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::process::{ADMIN_TOKEN, JWT_SECRET, Role, SOON, accepted, end, run, seckill, text};

/// Leaves the secrets out that the other tests set. Empty variables, as compose files leave them, count as not given.
const NO_SECRETS: [(&str, &str); 2] = [("SECKILL_JWT_SECRET", ""), ("SECKILL_ADMIN_TOKEN", "")];

/// Makes a key pair of this name in the folder.
async fn keygen(folder: &Path, args: &[&str]) {
    let out = folder.to_str().unwrap();
    let output = run(&[&["token", "keygen", "--out", out][..], args].concat()).await;
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output));
}

/// A token of user 7, by the command, with these flags.
async fn token(flags: &[&str]) -> String {
    let output = end(seckill().args(["token", "--user", "7"]).args(flags)).await;
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The status of a read with this token: 404, because there is no such sale, or 401.
async fn status(gateway: &Role, token: &str) -> u16 {
    let url = format!("{}/api/v1/sales/99/orders/mine", gateway.url());
    reqwest::Client::new().get(url).bearer_auth(token).send().await.unwrap().status().as_u16()
}

async fn becomes(gateway: &Role, token: &str, expected: u16) {
    eventually(SOON, async || match status(gateway, token).await {
        status if status == expected => Ok(()),
        status => Err(status),
    })
    .await;
}

#[tokio::test]
async fn outside_demonstrations_a_start_without_a_secret_is_refused_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let gateway = ["gateway", "--listen", "127.0.0.1:0", "--data-dir", data];
    let start = async |variables: &[(&str, &str)]| {
        end(seckill().args(gateway).envs(NO_SECRETS).envs(variables.iter().copied())).await
    };
    for (variables, parts) in [
        (&[][..], ["--jwt-secret-file", "seckill token keygen", "openssl rand -hex 32", "--demo-controls"]),
        (
            &[("SECKILL_JWT_SECRET", JWT_SECRET)],
            ["--admin-token-file", "--admin-tokens-file", "openssl rand -hex 16", "admin.token"],
        ),
        (&[("SECKILL_JWT_SECRET", "short")], ["--jwt-secret", "5 characters", "32", "more"]),
        (
            &[(
                "SECKILL_JWT_SECRET",
                "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA0\n-----END PUBLIC KEY-----",
            )],
            ["--jwt-secret", "a key in PEM", "no secret", "--jwt-key-file"],
        ),
        (
            &[("SECKILL_ADMIN_TOKEN", ADMIN_TOKEN)],
            ["jwt.secret", "--jwt-key-file", "--jwks-url", "makes both"],
        ),
    ] {
        let output = start(variables).await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        for part in parts {
            assert!(text(&output).contains(part), "{part:?} is missing in {}", text(&output));
        }
        assert!(!Path::new(data).exists(), "a start that is refused makes nothing");
    }
}

#[tokio::test]
async fn secrets_that_lie_in_the_data_folder_are_used() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("jwt.secret"), format!("{JWT_SECRET}\n")).unwrap();
    fs::write(folder.path().join("admin.token"), format!("{ADMIN_TOKEN}\n")).unwrap();
    let data = folder.path().to_str().unwrap();
    let gateway = Role::start("gateway", &["--data-dir", data], &NO_SECRETS).await;
    let sale = gateway.open_sale(1).await;
    accepted(gateway.order(sale, 1).await);
}

#[tokio::test]
async fn keys_are_rotated_step_by_step_without_a_restart_and_without_refusing_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, private) = (folder.path().join("keys"), folder.path().join("private"));
    fs::create_dir(&keys).unwrap();
    let install = |name: &str| fs::copy(private.join(name), keys.join(name)).unwrap();
    let signing = |name: &str| private.join(name).to_str().unwrap().to_owned();
    keygen(&private, &["--kid", "2026-10"]).await;
    keygen(&private, &["--kid", "2026-11", "--alg", "HS256"]).await;
    install("2026-10.pem");
    let data = folder.path().join("data");
    // One user asks again and again for what there is not, which is limited as a rule.
    let flags = [
        "--data-dir",
        data.to_str().unwrap(),
        "--jwt-key-file",
        keys.to_str().unwrap(),
        "--miss-rate-limit=0",
        "--read-rate-limit=0",
    ];
    let environment =
        [("SECKILL_JWT_SECRET", ""), ("SECKILL_JWT_ISSUER", "shop"), ("SECKILL_JWT_AUDIENCE", "seckill,x")];
    let gateway = Role::start("gateway", &flags, &environment).await;
    let claims = ["--jwt-issuer", "shop", "--jwt-audience", "seckill"];
    let sign = async |flags: &[&str]| token(&[flags, &claims[..]].concat()).await;
    let old = sign(&["--signing-key-file", &signing("2026-10.key"), "--kid", "2026-10"]).await;
    let new = sign(&["--signing-key-file", &signing("2026-11.jwk")]).await;
    let without_issuer = token(&["--signing-key-file", &signing("2026-10.key"), "--kid", "2026-10"]).await;
    let of_the_secret = Signer::hs256(JWT_SECRET).sign(7, 4_102_444_800);
    assert_eq!(status(&gateway, &old).await, 404);
    for bad in [&new, &without_issuer, &of_the_secret] {
        assert_eq!(status(&gateway, bad).await, 401);
    }
    // 1. Add the new key; both are valid.  2. Sign with it.  3. Withdraw the old one.
    install("2026-11.jwk");
    becomes(&gateway, &new, 404).await;
    assert_eq!(status(&gateway, &old).await, 404);
    fs::remove_file(keys.join("2026-10.pem")).unwrap();
    becomes(&gateway, &old, 401).await;
    assert_eq!(status(&gateway, &new).await, 404);
}

#[tokio::test]
async fn a_key_that_is_there_is_not_overwritten_and_a_private_one_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    keygen(folder.path(), &["--kid", "a"]).await;
    let mode = fs::metadata(folder.path().join("a.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others can read it");
    let before = fs::read(folder.path().join("a.key")).unwrap();
    let out = folder.path().to_str().unwrap();
    let again = run(&["token", "keygen", "--kid", "a", "--out", out]).await;
    assert!(!again.status.success() && text(&again).contains("not overwritten"), "{}", text(&again));
    assert_eq!(fs::read(folder.path().join("a.key")).unwrap(), before);
    let outside = run(&["token", "keygen", "--kid", "../a", "--out", out]).await;
    assert_eq!(outside.status.code(), Some(2), "{}", text(&outside));
}

#[tokio::test]
async fn admins_of_a_file_have_their_scopes_and_are_in_the_log_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admins");
    fs::write(&file, "shop sales token-of-the-shop\nops operate token-of-the-operators\n").unwrap();
    let data = folder.path().join("data");
    let flags = ["--data-dir", data.to_str().unwrap(), "--admin-tokens-file", file.to_str().unwrap()];
    let gateway = Role::start("gateway", &flags, &[("SECKILL_ADMIN_TOKEN", "")]).await;
    let server = gateway.url();
    let command = async |args: &[&str], token: &str| {
        run(&[args, &["--server", &server, "--admin-token", token]].concat()).await
    };
    let create = ["sale", "create", "--name", "test", "--stock", "1"];
    let refused = command(&create, "token-of-the-operators").await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("ops lacks the scope `sales`"), "{}", text(&refused));
    let created = command(&create, "token-of-the-shop").await;
    assert!(created.status.success(), "{}", text(&created));
    let reconciled = command(&["reconcile", "1"], "token-of-the-operators").await;
    assert!(reconciled.status.success(), "{}", text(&reconciled));
    let listed = command(&["parked", "list"], "token-of-the-operators").await;
    assert!(listed.status.success(), "{}", text(&listed));
    let lines = eventually(SOON, async || {
        let log = gateway.log();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let changes: Vec<_> = events.filter(|event| event["target"] == "seckill::admin").collect();
        if changes.len() >= 3 { Ok(changes) } else { Err(log) }
    })
    .await;
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["admin"].as_str().unwrap(),
                line["route"].as_str().unwrap(),
                line["status"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("ops", "/api/v1/sales", 403),
        ("shop", "/api/v1/sales", 201),
        ("ops", "/api/v1/sales/{id}/reconcile", 200),
    ];
    assert_eq!(seen, expected, "each change once, and no read");
    let has_id = |line: &Value| line["request_id"].as_str().is_some_and(|id| id.len() == 36);
    assert!(lines.iter().all(has_id), "each line has the id of its request: {lines:?}");
}

#[tokio::test]
async fn a_bad_file_of_admins_is_refused_without_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admins");
    let path = file.to_str().unwrap();
    for (content, part) in [
        ("shop sale hunter2-hunter2-hunter2", "line 1 has a scope"),
        ("admin all hunter2-hunter2-hunter2", "which is named `admin`, has a name that is there already"),
    ] {
        fs::write(&file, content).unwrap();
        let output = run(&[
            "gateway",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            folder.path().to_str().unwrap(),
            "--admin-tokens-file",
            path,
        ])
        .await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(part) && text(&output).contains(path), "{}", text(&output));
        assert!(!text(&output).contains("hunter2"), "{}", text(&output));
    }
}

#[tokio::test]
async fn no_secret_and_no_token_is_in_any_log_or_message() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    keygen(folder.path(), &["--kid", "shared", "--alg", "HS256"]).await;
    let jwk: Value = serde_json::from_str(&fs::read_to_string(file("shared.jwk")).unwrap()).unwrap();
    let admins = "shop sales a-token-that-nobody-may-see\n";
    fs::write(file("admins"), admins).unwrap();
    let (keys, admins_file, data) = (file("shared.jwk"), file("admins"), file("data"));
    let flags = [
        "--data-dir",
        &data,
        "--jwt-key-file",
        &keys,
        "--admin-tokens-file",
        &admins_file,
        "--demo-controls",
    ];
    let gateway = Role::start("gateway", &flags, &[("SECKILL_LOG", "trace")]).await;
    let good = token(&[]).await;
    let by_file = token(&["--signing-key-file", &keys]).await;
    let forged = Signer::hs256("a secret of somebody else, 32 or more").sign(7, 4_102_444_800);
    let expired = Signer::hs256(JWT_SECRET).sign(7, 1_000_000_000);
    let unknown = good.replacen("eyJ", "eyK", 1);
    let wrong_admin = format!("{ADMIN_TOKEN}-wrong");
    let secrets = [
        JWT_SECRET,
        ADMIN_TOKEN,
        "a-token-that-nobody-may-see",
        jwk["k"].as_str().unwrap(),
        &good,
        &by_file,
        &forged,
        &expired,
        &unknown,
        &wrong_admin,
    ];
    let sale = gateway.open_sale(5).await;
    let client = reqwest::Client::new();
    let mut messages = String::new();
    for secret in secrets {
        for (method, path) in [
            ("POST", format!("/api/v1/sales/{sale}/orders")),
            ("GET", format!("/api/v1/sales/{sale}/orders/mine")),
            ("POST", "/api/v1/sales".to_owned()),
            ("GET", "/api/v1/parked".to_owned()),
            ("POST", format!("/api/v1/sales/{sale}/reconcile")),
            ("PUT", "/api/v1/control/workers".to_owned()),
        ] {
            let method = method.parse().unwrap();
            let request = client.request(method, format!("{}{path}", gateway.url())).bearer_auth(secret);
            let answer = request.json(&serde_json::json!({"paused": false})).send().await.unwrap();
            messages += &format!("{:?}", answer.headers());
            messages += &answer.text().await.unwrap();
        }
    }
    let refused = run(&["reconcile", "1", "--server", &gateway.url(), "--admin-token", &wrong_admin]).await;
    messages += &text(&refused);
    assert!(messages.contains("missing-scope") && messages.contains("unauthenticated"), "{messages}");
    let log = gateway.log();
    assert!(log.contains("seckill::admin"), "{log}");
    for text in [&log, &messages] {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {text}");
            // The signature alone would be enough for whoever knows the rest.
            let signature = secret.rsplit_once('.').map_or(secret, |(_, signature)| signature);
            assert!(!text.contains(signature), "{signature} is in {text}");
        }
    }
}

/// Serves this body over TLS, to everybody who trusts the certificate in the file that is also returned.
async fn tls_provider(folder: &Path, body: String) -> (String, String) {
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::rustls::{ServerConfig, crypto::ring};
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = folder.join("ca.pem");
    fs::write(&file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever does not trust the certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4_096];
            let _ = stream.read(&mut head).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (format!("https://localhost:{port}/jwks.json"), file.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn keys_at_an_https_address_are_taken_from_whom_this_machine_trusts() {
    let folder = tempfile::tempdir().unwrap();
    // From RFC 8037, appendix A: a key pair that everybody knows.
    let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"rfc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    let token = Signer::from_file(private, Some("rfc")).unwrap().sign(7, 4_102_444_800);
    let (url, ca) = tls_provider(folder.path(), jwks.to_owned()).await;
    let start = async |name: &str, trusted: &[(&str, &str)]| {
        let data = folder.path().join(name);
        let flags = ["--data-dir", data.to_str().unwrap(), "--jwks-url", &url];
        let environment = [&[("SECKILL_JWT_SECRET", "")], trusted].concat();
        Role::start("gateway", &flags, &environment).await
    };
    let trusting = start("trusting", &[("SSL_CERT_FILE", &ca)]).await;
    becomes(&trusting, &token, 404).await;
    let other = start("other", &[]).await;
    assert_eq!(status(&other, &token).await, 503, "{}", other.log());
    assert!(other.log().contains("certificate"), "{}", other.log());
}
