//! A sender of updates: what posts to the inlets.

use std::time::Duration;

use serde_json::{Value, json};

use super::receiver::PATIENCE;

/// Posts to the inlets of one running appliance. Clones share connections.
#[derive(Clone)]
pub struct Sender {
    inlets: String,
    http: reqwest::Client,
}

impl Sender {
    pub fn new(http: reqwest::Client, inlets: String) -> Self {
        Self { inlets, http }
    }

    /// Posts a JSON body; the status and the answer, or none when there is no answer.
    pub async fn try_post(&self, inlet: &str, body: &Value) -> Option<(u16, Value)> {
        self.try_post_text(inlet, &body.to_string()).await
    }

    /// Posts a body that may be anything, said to be JSON.
    pub async fn try_post_text(&self, inlet: &str, body: &str) -> Option<(u16, Value)> {
        let url = format!("{}/collection/{inlet}", self.inlets);
        let request = self.http.post(url).header("content-type", "application/json").body(body.to_owned());
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }
}

/// A bare entity of the person `id` in namespace `CRM`.
pub fn update(id: &str, attributes: Value) -> Value {
    let mut entity = attributes;
    entity["identityMap"] = json!({ "CRM": [{ "id": id, "primary": true }] });
    entity
}

/// Whose update or export this is: its first identity in namespace `CRM`.
pub fn who(body: &Value) -> &str {
    body["identityMap"]["CRM"][0]["id"].as_str().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "plain HTTP on loopback to the inlets, as a sender would")]
pub fn http() -> reqwest::Client {
    // reqwest wants one even for plain HTTP; an error means that another test was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // A killed appliance must not leave a sender with a connection that it believes in.
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).pool_idle_timeout(Duration::from_secs(5)).build().unwrap()
}
