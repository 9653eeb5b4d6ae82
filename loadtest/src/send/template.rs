//! Requests that differ in little: their common part is made once.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::http::uri::Uri;
use hyper::{Method, Request};

use crate::send::target::Target;

/// The common part of the requests of one kind.
#[derive(Debug, Clone)]
pub struct Template {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Template {
    pub fn get(target: &Target) -> Self {
        let host = HeaderValue::from_str(target.authority()).expect("a URL's host and port are ASCII");
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(HOST, host);
        // A placeholder: a request only replaces the value.
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer"));
        Self { method: Method::GET, headers, body: Bytes::new() }
    }

    /// A HEAD: a GET's answer without its body.
    pub fn head(target: &Target) -> Self {
        Self { method: Method::HEAD, ..Self::get(target) }
    }

    pub fn post(target: &Target, json: impl Into<Bytes>) -> Self {
        let mut template = Self::get(target);
        template.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { method: Method::POST, body: json.into(), ..template }
    }

    pub fn request(&self, uri: Uri, authorization: HeaderValue) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
            *value = authorization;
        }
        request
    }

    /// One request of this kind without an `Authorization` header.
    pub fn anonymous(&self, uri: Uri) -> Request<Full<Bytes>> {
        let mut request = self.request(uri, HeaderValue::from_static(""));
        request.headers_mut().remove(AUTHORIZATION);
        request
    }
}
