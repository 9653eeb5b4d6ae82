//! The shop: a page for buyers that is written on the public API alone, as any user of the API would write it. It knows nothing of the
//! feed, and its files are apart from those of the live page, because buyers reach it where admins have a listener of their own.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::routing::get;
use bytes::Bytes;
use rust_embed::RustEmbed;

use crate::assets::{self, Asset, Assets};

/// The page may load its own files, start its own worker and talk to its own gateway, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "shop/"]
struct Files;

/// What the shop takes from the live page. `i18n.js` loads the texts beside it, which are the shop's own here.
const SHARED: [&str; 6] = ["choices.js", "dom.js", "early.js", "favicon.svg", "i18n.js", "proof-worker.js"];

static ASSETS: Assets = LazyLock::new(|| {
    let own = Files::iter().filter_map(|name| Some((name.to_string(), Files::get(&name)?.data)));
    let own = own.map(|(name, data)| (name, Bytes::from(data.into_owned())));
    let shared = SHARED.iter().filter_map(|name| Some(((*name).to_owned(), assets::file(name)?)));
    own.chain(shared).map(|(name, plain)| (name.clone(), Asset::new(&name, plain))).collect()
});

/// `GET /shop` and its files, for buyers.
pub fn shop() -> Router {
    let index = async |headers: HeaderMap| assets::serve_of(&ASSETS, POLICY, "index.html", &headers).await;
    let file = async |Path(name): Path<String>, headers: HeaderMap| {
        assets::serve_of(&ASSETS, POLICY, &name, &headers).await
    };
    Router::new().route("/shop", get(index)).route("/shop/{name}", get(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_of_the_shop_imports_is_a_file_of_the_shop() {
        let mut seen = 0;
        for (name, asset) in ASSETS.iter().filter(|(name, _)| name.ends_with(".js")) {
            let text = String::from_utf8_lossy(asset.plain());
            for imported in text.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(ASSETS.contains_key(imported), "{name} imports {imported}");
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    }
}
