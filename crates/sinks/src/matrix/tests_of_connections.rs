//! Every kind's connection test tells what is wrong, and sends nothing that looks like data.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tracecast_destination::Kind;

use super::{Found, ensure, table, vendors, wire};
use crate::testing::*;
use crate::{Answer, ClientOptions, Clients, Diagnosis, build};

async fn each(check: impl AsyncFn(Kind) -> Found) {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        if let Err(found) = check(kind).await {
            wrong.push(format!("{kind}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The test at this address ends so.
async fn finds(kind: Kind, base: &str, clients: &Clients, diagnosis: Diagnosis) -> Found {
    let adapter = build(&destination_at(kind, base), clients).unwrap();
    let report = adapter.test().await;
    ensure!(report.diagnosis == diagnosis, "{report:?}");
    ensure!(report.ok == (diagnosis == Diagnosis::Ok), "{report:?}");
    ensure!(!report.hint.is_empty(), "no hint: {report:?}");
    Ok(())
}

/// The test is answered with this status in the vendor's words.
async fn answered(kind: Kind, clients: &Clients, status: u16, diagnosis: Diagnosis) -> Found {
    let server = Server::answering(move |_, _| vendors::refusal(kind, status, "no")).await;
    let adapter = build(&destination_at(kind, &server.url), clients).unwrap();
    let report = adapter.test().await;
    let is_told =
        report.status == Some(status) || (report.status.is_none() && table::STATUS_HIDDEN.contains(&kind));
    ensure!(report.diagnosis == diagnosis && is_told, "{report:?}");
    // Status and advice: more than the vendor said.
    ensure!(report.hint.contains("; "), "no advice: {report:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_wrong() {
    let clients = clients();
    each(async |kind| {
        let server = Server::answering(move |position, _| vendors::tested(kind, position)).await;
        finds(kind, &server.url, &clients, Diagnosis::Ok).await?;
        for received in server.received() {
            let said = wire::all(&received);
            // No user, no model, no message: nothing that a vendor could show among the user's data.
            ensure!(!said.contains("gen_ai") && !said.contains("messages"), "{said}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_key_is_wrong() {
    let clients = clients();
    each(async |kind| answered(kind, &clients, 401, Diagnosis::Auth).await).await;
}

#[tokio::test]
async fn a_right_is_lacking() {
    let clients = clients();
    each(async |kind| answered(kind, &clients, 403, Diagnosis::Auth).await).await;
}

/// Where the first request of a test only reads, the others need the right to write.
#[tokio::test]
async fn the_key_may_only_read() {
    let clients = clients();
    each(async |kind| {
        if !table::READS_FIRST.contains(&kind) {
            return Ok(());
        }
        let server = Server::answering(move |position, _| match position {
            0 => vendors::tested(kind, 0),
            _ => vendors::refusal(kind, 403, "no"),
        })
        .await;
        finds(kind, &server.url, &clients, Diagnosis::Auth).await
    })
    .await;
}

#[tokio::test]
async fn the_address_is_wrong() {
    let clients = clients();
    each(async |kind| answered(kind, &clients, 404, Diagnosis::NotFound).await).await;
}

/// Somebody has entered the address of the vendor's user interface, which answers everything with its page.
#[tokio::test]
async fn a_web_page_is_no_api() {
    let clients = clients();
    each(async |kind| {
        let page = |_: usize, _: &Received| {
            Some((200, "content-type: text/html; charset=utf-8\r\n".to_owned(), b"<!doctype html>".to_vec()))
        };
        let server = Server::answering(page).await;
        let report = build(&destination_at(kind, &server.url), &clients).unwrap().test().await;
        // A webhook may answer what it likes, and a bucket is no more than a place to put things.
        ensure!(report.ok == matches!(kind, Kind::Webhook | Kind::S3), "{report:?}");
        let called = &server.received()[0].target;
        let path = called.split('?').next().unwrap_or_default();
        ensure!(report.url.contains(path) || kind == Kind::S3, "{called} was called: {report:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn too_many_requests() {
    let clients = clients();
    each(async |kind| answered(kind, &clients, 429, Diagnosis::RateLimited).await).await;
}

#[tokio::test]
async fn the_server_is_ill() {
    let clients = clients();
    each(async |kind| answered(kind, &clients, 500, Diagnosis::Unavailable).await).await;
}

#[tokio::test]
async fn the_port_is_closed() {
    let clients = clients();
    let base = format!("http://{}", closed_port());
    each(async |kind| finds(kind, &base, &clients, Diagnosis::Connect).await).await;
}

#[tokio::test]
async fn the_name_is_unknown() {
    let nobody = |_| -> futures_util::future::BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async { Err(std::io::Error::other("failed to lookup address: Name or service not known")) })
    };
    let clients = Clients::with_names(ClientOptions::default(), Arc::new(nobody)).unwrap();
    each(async |kind| finds(kind, "http://nowhere.example", &clients, Diagnosis::Dns).await).await;
}

/// Speaks TLS with a certificate that nobody has signed.
async fn selfsigned() -> std::net::SocketAddr {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { drop(acceptor.accept(stream).await) });
        }
    });
    address
}

#[tokio::test]
async fn the_certificate_is_not_trusted() {
    let clients = clients();
    let base = format!("https://{}", selfsigned().await);
    each(async |kind| {
        finds(kind, &base, &clients, Diagnosis::Tls).await?;
        // A setting, not weather: the data is kept and the destination held.
        let adapter = build(&destination_at(kind, &base), &clients).unwrap();
        let answer = adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer;
        ensure!(matches!(answer, Answer::Config(_)), "{answer:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_port_does_not_speak_tls() {
    let clients = clients();
    let base = format!("https://{}", blurting(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    each(async |kind| finds(kind, &base, &clients, Diagnosis::Tls).await).await;
}

/// The clock stands still but for the wait.
#[tokio::test]
async fn nobody_answers() {
    let clients = clients();
    each(async |kind| {
        let server = Server::answering(|_, _| None).await;
        let adapter = build(&destination_at(kind, &server.url), &clients).unwrap();
        let testing = tokio::spawn(async move { adapter.test().await });
        server.has_received(1).await;
        tokio::time::pause();
        let report = testing.await.unwrap();
        tokio::time::resume();
        ensure!(report.diagnosis == Diagnosis::Timeout, "{report:?}");
        Ok(())
    })
    .await;
}
