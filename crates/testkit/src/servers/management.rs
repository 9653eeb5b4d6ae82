//! RabbitMQ's HTTP API, as far as tests need it: vhosts, and what an operator may do to the queues of one.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use url::Url;

use crate::eventually::eventually;

const DEADLINE: Duration = Duration::from_secs(60);

/// The one policy that a test has in force.
const POLICY: &str = "seckill-testkit";

/// A vhost, and what an operator may do to its queues.
#[derive(Clone)]
pub struct Vhost {
    /// With credentials.
    api: Url,
    name: String,
}

impl Vhost {
    pub(crate) fn new(api: Url, name: &str) -> Self {
        Self { api, name: name.to_owned() }
    }

    /// Makes the vhost, with every right in it for `user`.
    pub(crate) async fn create(&self, user: &str) -> Result<(), String> {
        self.send(Method::PUT, &["vhosts", &self.name], None).await?;
        let rights = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.send(Method::PUT, &["permissions", &self.name, user], Some(&rights)).await.map(drop)
    }

    /// Connections to it are closed, and its queues are gone.
    pub(crate) async fn delete(&self) -> Result<(), String> {
        self.send(Method::DELETE, &["vhosts", &self.name], None).await.map(drop)
    }

    /// Limits a queue to so many messages. It nacks what is published beyond that (`overflow` is `reject-publish`); RabbitMQ
    /// lets a few more in before it does. Replaces the policy that was in force; applied when it returns.
    ///
    /// # Panics
    /// When there is no such queue, or the HTTP API does not answer.
    pub async fn limit_queue(&self, queue: &str, messages: u32) {
        let definition = json!({"max-length": messages, "overflow": "reject-publish"});
        self.set_policy(&format!("^{}$", queue.replace('.', "\\.")), &definition).await;
        self.await_policy(queue, Some(POLICY)).await;
    }

    /// Takes the limit of [`limit_queue`](Self::limit_queue) away.
    ///
    /// # Panics
    /// As [`limit_queue`](Self::limit_queue).
    pub async fn unlimit_queue(&self, queue: &str) {
        self.remove_policy().await;
        self.await_policy(queue, None).await;
    }

    /// Puts a policy in force on the queues whose names match `pattern`, in place of the one before. The queues follow a
    /// little later.
    ///
    /// # Panics
    /// When the HTTP API refuses it.
    pub async fn set_policy(&self, pattern: &str, definition: &Value) {
        let policy = json!({"pattern": pattern, "definition": definition, "apply-to": "queues"});
        self.done(Method::PUT, &["policies", &self.name, POLICY], Some(&policy)).await;
    }

    /// Takes the policy of [`set_policy`](Self::set_policy) away.
    ///
    /// # Panics
    /// When there is none.
    pub async fn remove_policy(&self) {
        self.done(Method::DELETE, &["policies", &self.name, POLICY], None).await;
    }

    /// Removes every message that waits in a queue. What consumers have and did not acknowledge stays.
    ///
    /// # Panics
    /// When there is no such queue.
    pub async fn purge_queue(&self, queue: &str) {
        self.done(Method::DELETE, &["queues", &self.name, queue, "contents"], None).await;
    }

    /// Removes a queue with everything in it.
    ///
    /// # Panics
    /// When there is no such queue.
    pub async fn delete_queue(&self, queue: &str) {
        self.done(Method::DELETE, &["queues", &self.name, queue], None).await;
    }

    /// The names of the queues that there are now.
    ///
    /// # Panics
    /// When the HTTP API does not answer.
    pub async fn queues(&self) -> Vec<String> {
        let asked = async {
            let queues = self.send(Method::GET, &["queues", &self.name], None).await?.json::<Vec<Value>>();
            queues.await.map_err(|error| error.to_string())
        };
        let queues = asked.await.unwrap_or_else(|reason| panic!("RabbitMQ's HTTP API: {reason}"));
        queues.iter().map(|queue| queue["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    async fn await_policy(&self, queue: &str, policy: Option<&str>) {
        eventually(DEADLINE, async || {
            let queue: Value = self
                .send(Method::GET, &["queues", &self.name, queue], None)
                .await?
                .json()
                .await
                .map_err(|error| error.to_string())?;
            let seen = &queue["policy"];
            if seen.as_str() == policy { Ok(()) } else { Err(format!("the policy is {seen}")) }
        })
        .await;
    }

    async fn done(&self, method: Method, path: &[&str], body: Option<&Value>) {
        let sent = self.send(method, path, body).await;
        sent.unwrap_or_else(|reason| panic!("RabbitMQ's HTTP API: {reason}"));
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<reqwest::Response, String> {
        let mut url = self.api.clone();
        url.path_segments_mut().map_err(|()| "its address takes no path")?.clear().push("api").extend(path);
        let request: RequestBuilder = Client::new().request(method, url).timeout(DEADLINE);
        let request = body.iter().fold(request, |request, body| request.json(body));
        let response = request.send().await.map_err(|error| error.to_string())?;
        response.error_for_status().map_err(|error| error.to_string())
    }
}
