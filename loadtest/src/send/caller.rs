//! Single requests of one buyer or admin, for the scenarios that are more than a schedule of orders.

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::Uri;
use serde_json::Value;

use crate::send::client::{Answer, Client};
use crate::send::target::Target;
use crate::send::template::Template;

/// Who asks one target.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) target: Target,
}

impl Caller {
    pub(crate) fn uri(&self, path: &str) -> Uri {
        self.target.path(path).try_into().expect("the path of a URL, and a number, make a path")
    }

    pub(crate) async fn get(
        &self,
        client: &mut Client,
        path: &str,
        token: &HeaderValue,
    ) -> Result<Answer, String> {
        self.send(client, &Template::get(&self.target), path, token, None).await
    }

    pub(crate) async fn post(
        &self,
        client: &mut Client,
        path: &str,
        token: &HeaderValue,
        body: &str,
    ) -> Result<Answer, String> {
        self.send(client, &Template::post(&self.target, body.to_owned()), path, token, None).await
    }

    /// # Errors
    /// There is no answer; why.
    pub(crate) async fn send(
        &self,
        client: &mut Client,
        template: &Template,
        path: &str,
        token: &HeaderValue,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, String> {
        let mut request = template.request(self.uri(path), token.clone());
        request.headers_mut().extend(header.map(|(name, value)| (Some(name), value)));
        client.send(request).await.map_err(|failure| failure.to_string())
    }
}

/// The body as JSON; `Null` where it is none.
pub(crate) fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// Status and body, for messages.
pub(crate) fn text(answer: &Answer) -> String {
    format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))
}
