//! The address policy in the connectors of the client libraries, so that each new connection is
//! checked.
//!
//! A name is checked in the resolver, with every address it has at that moment; a host given as an
//! address never meets a resolver and is checked before the connection is asked for.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use super::address::{AddressPolicy, Blocked};

#[cfg(test)]
mod tests;

/// A name that could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ResolveFailed {
    /// The name does not exist, as opposed to a name server that does not answer.
    pub(crate) unknown_name: bool,
    message: String,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Finds the addresses of a name.
pub(crate) type Names = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The resolver of the operating system.
pub(crate) fn system_names() -> Names {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// A resolver behind the policy, in the forms the three client libraries ask for. They connect to
/// the addresses it returns and to no others.
#[derive(Clone)]
pub(crate) struct Resolver {
    policy: Arc<AddressPolicy>,
    names: Names,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn new(policy: Arc<AddressPolicy>, names: Names) -> Resolver {
        Resolver { policy, names }
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, BoxError> {
        let addresses = (self.names)(name.to_owned()).await.map_err(|error| {
            let message = error.to_string();
            ResolveFailed {
                unknown_name: ["not known", "nodename", "No address", "no such host"]
                    .iter()
                    .any(|text| message.contains(text)),
                message,
            }
        })?;
        if addresses.is_empty() {
            return Err(Box::new(ResolveFailed {
                unknown_name: true,
                message: "the name has no address".into(),
            }));
        }
        // Every address is checked: a mixed answer is refused as a whole.
        for address in &addresses {
            self.policy.check(name, *address)?;
        }
        Ok(addresses)
    }

    async fn sockets(self, name: String) -> Result<std::vec::IntoIter<SocketAddr>, BoxError> {
        let addresses = self.lookup(&name).await?;
        let sockets: Vec<SocketAddr> =
            addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
        Ok(sockets.into_iter())
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let found = self.clone().sockets(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(found.await?) as reqwest::dns::Addrs) })
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().sockets(name.as_str().to_owned()))
    }
}

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move { self.lookup(name).await.map_err(ResolveDnsError::new) })
    }
}

/// A connector that is not asked for a host the policy refuses.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<C> {
    policy: Arc<AddressPolicy>,
    inner: C,
}

impl<C> Guarded<C> {
    pub(crate) fn new(policy: Arc<AddressPolicy>, inner: C) -> Guarded<C> {
        Guarded { policy, inner }
    }
}

impl<C> Service<Uri> for Guarded<C>
where
    C: Service<Uri, Future: Send + 'static, Error: Into<BoxError>>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Err(blocked) = self.policy.check_host(uri.host().unwrap_or_default()) {
            return Box::pin(async { Err(blocked.into()) });
        }
        let connection = self.inner.call(uri);
        Box::pin(async { connection.await.map_err(Into::into) })
    }
}

/// The same for the AWS client, which hides its connector.
impl HttpClient for Guarded<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Guarded { policy: self.policy.clone(), inner })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

impl HttpConnector for Guarded<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri: Result<Uri, _> = request.uri().parse();
        // What is no URI fails in the client with a better text.
        let checked = uri.map_or(Ok(()), |uri| self.policy.check_host(uri.host().unwrap_or_default()));
        match checked {
            Ok(()) => self.inner.call(request),
            Err(blocked) => HttpConnectorFuture::ready(Err(refused(blocked))),
        }
    }
}

fn refused(blocked: Blocked) -> ConnectorError {
    ConnectorError::other(blocked.into(), None)
}
