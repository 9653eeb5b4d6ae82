//! The page's files, compressed once and served with an ETag. They are part of the program, so the page needs no other host.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

/// The page may load its own files and talk to its own gateway, and nothing else. The chart library needs inline styles.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
                      connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Files;

/// The file with this name, for other pages that use it, too.
pub(crate) fn file(name: &str) -> Option<Bytes> {
    Files::get(name).map(|file| file.data.into_owned().into())
}

pub(crate) struct Asset {
    kind: &'static str,
    etag: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
}

impl Asset {
    #[cfg(test)]
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }

    pub(crate) fn new(name: &str, plain: Bytes) -> Self {
        let hash = Sha256::digest(&plain);
        let etag: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::try_from(format!("\"{etag}\"")).expect("hexadecimal digits in quotes");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let gzip =
            gzip.write_all(&plain).and_then(|()| gzip.finish()).expect("writing to memory never fails");
        Self { kind: kind(name), etag, plain, gzip: gzip.into() }
    }
}

/// The files of a page by their names. Made at the first request, because compressing takes a moment and many gateways never serve the
/// page.
pub(crate) type Assets = LazyLock<BTreeMap<String, Asset>>;

static ASSETS: Assets = LazyLock::new(|| {
    let own = Files::iter().filter_map(|name| Some((name.to_string(), Files::get(&name)?.data)));
    let own = own.map(|(name, data)| (name, Bytes::from(data.into_owned())));
    let libraries = plotly::Plot::offline_js_sources();
    let plotly = ("plotly.js".to_owned(), Bytes::copy_from_slice(plotly_js(&libraries).as_bytes()));
    own.chain([plotly]).map(|(name, plain)| (name.clone(), Asset::new(&name, plain))).collect()
});

/// The first script of the chart library's page head, which is plotly.js; the second one sets formulas.
fn plotly_js(libraries: &str) -> &str {
    let (_, rest) = libraries.split_once('>').expect("a script element has a start tag");
    let (script, _) = rest.split_once("</script>").expect("a script element has an end");
    script
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// `GET /`
pub(crate) async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers).await
}

/// `GET /labs`
pub(crate) async fn labs(headers: HeaderMap) -> Response {
    serve("labs.html", &headers).await
}

/// `GET /assets/{name}`
pub(crate) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve(&name, &headers).await
}

async fn serve(name: &str, headers: &HeaderMap) -> Response {
    serve_of(&ASSETS, POLICY, name, headers).await
}

/// Serves the file `name` of a page under its content security policy.
pub(crate) async fn serve_of(
    assets: &'static Assets,
    policy: &'static str,
    name: &str,
    headers: &HeaderMap,
) -> Response {
    // The first request compresses the files, which would block a thread that answers orders.
    let assets = tokio::task::spawn_blocking(|| &**assets).await;
    let Some(asset) = assets.ok().and_then(|assets| assets.get(name)) else {
        let detail = "This page has no such file.";
        return crate::problem::problem(StatusCode::NOT_FOUND, "not-found", detail);
    };
    let field = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let fixed = [
        (header::ETAG, asset.etag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let known = field(header::IF_NONE_MATCH).unwrap_or_default();
    if known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.etag) {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    let gzip = field(header::ACCEPT_ENCODING).unwrap_or_default().split(',').any(|way| {
        let (name, quality) = way.split_once(";q=").unwrap_or((way, "1"));
        name.trim() == "gzip" && quality.trim().parse::<f32>().is_ok_and(|quality| quality > 0.0)
    });
    if gzip {
        return (fixed, [(header::CONTENT_ENCODING, "gzip")], asset.gzip.clone()).into_response();
    }
    (fixed, asset.plain.clone()).into_response()
}
