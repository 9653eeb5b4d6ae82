//! Single requests of one buyer that are part of the load, for the scenarios that are more than a schedule of orders. Like these they
//! are sent on [connections](crate::send::client) of their own, and counted by their status.

use hyper::header::HeaderValue;
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
        self.send(client, &Template::get(&self.target), path, token).await
    }

    pub(crate) async fn post(
        &self,
        client: &mut Client,
        path: &str,
        token: &HeaderValue,
        body: &str,
    ) -> Result<Answer, String> {
        self.send(client, &Template::post(&self.target, body.to_owned()), path, token).await
    }

    /// # Errors
    /// There is no answer; why.
    async fn send(
        &self,
        client: &mut Client,
        template: &Template,
        path: &str,
        token: &HeaderValue,
    ) -> Result<Answer, String> {
        let request = template.request(self.uri(path), token.clone());
        client.send(request).await.map_err(|failure| failure.to_string())
    }
}

/// The body as JSON; `Null` where it is none.
pub(crate) fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}
