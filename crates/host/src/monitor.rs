//! Monitoring over HTTP or HTTPS, on a thread of its own: it asks who is there (`guard.rs`), carries
//! requests to the event loop and answers back. What is answered is the node's, but for what only
//! this thread can tell (`threads.rs`) and the dashboard (`page.rs`), which may also act (`actions.rs`).

mod actions;
mod guard;
mod page;
mod threads;

use crate::event_loop::{Input, Inputs};
use crate::limits::{MONITOR_CONNECTIONS, MONITOR_WAIT_S};
use guard::Guard;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use millrace_config::options::MonitorOptions;
use millrace_node::MonitorAnswer;
use page::Dashboard;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_rustls::TlsAcceptor;

/// A request on its way to the event loop.
#[derive(Debug)]
pub(crate) struct MonitorRequest {
    /// Without the configured base path.
    pub(crate) path: String,
    /// Without its question mark; may be empty.
    pub(crate) query: String,
    reply: oneshot::Sender<MonitorAnswer>,
}

impl MonitorRequest {
    /// Sends the answer back; the asker may have gone.
    pub(crate) fn answer(self, answer: MonitorAnswer) {
        let _ = self.reply.send(answer);
    }
}

/// What the port serves and to whom.
pub(crate) struct Service {
    inputs: Inputs,
    /// In front of every path; empty or with a slash at its front only.
    base: String,
    guard: Option<Arc<Guard>>,
    dashboard: Option<Dashboard>,
    /// With it the port speaks HTTPS; what it holds is taken for every new connection.
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
}

impl Service {
    pub(crate) fn new(
        options: &MonitorOptions,
        tls: Option<watch::Receiver<Arc<ServerConfig>>>,
        inputs: Inputs,
    ) -> Self {
        let base = options.base_path.trim_matches('/');
        let base = if base.is_empty() {
            String::new()
        } else {
            format!("/{base}")
        };
        // Whoever may not be asked who he is may not act either.
        let has_actions = options.actions && options.has_authentication();
        Self {
            inputs,
            base,
            guard: Guard::new(options),
            dashboard: options.dashboard.then(|| Dashboard::new(has_actions)),
            tls,
        }
    }
}

/// Serves `listener` until the process ends.
///
/// # Errors
/// The system refuses a thread or the runtime.
pub(crate) fn start(listener: TcpListener, service: Service) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("monitoring".to_owned())
        .spawn(move || runtime.block_on(serve(listener, Arc::new(service))))?;
    Ok(())
}

async fn serve(listener: TcpListener, service: Arc<Service>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let free = Arc::new(Semaphore::new(MONITOR_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let Ok((socket, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let config = service.tls.as_ref().map(|tls| tls.borrow().clone());
            match config.map(TlsAcceptor::from) {
                None => converse(socket, peer, &service).await,
                Some(acceptor) => {
                    let wait = Duration::from_secs(MONITOR_WAIT_S);
                    let accepted = tokio::time::timeout(wait, acceptor.accept(socket)).await;
                    // A peer that speaks no TLS, or breaks off, is no concern of ours.
                    if let Ok(Ok(session)) = accepted {
                        converse(session, peer, &service).await;
                    }
                }
            }
            drop(permit);
        });
    }
}

async fn converse(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    service: &Arc<Service>,
) {
    let answer = service_fn(|request| handle(request, peer, service));
    // A peer that breaks off is no concern of ours.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(Duration::from_secs(MONITOR_WAIT_S))
        .serve_connection(TokioIo::new(socket), answer)
        .await;
}

async fn handle(
    request: Request<Incoming>,
    peer: SocketAddr,
    service: &Arc<Service>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Some(guard) = &service.guard {
        let header = request.headers().get(AUTHORIZATION);
        if !guard
            .admits(header.and_then(|text| text.to_str().ok()))
            .await
        {
            return Ok(unauthorized());
        }
    }
    let Some(path) = inner_path(request.uri().path(), &service.base) else {
        return Ok(response(text(404, "404 page not found\n")));
    };
    let answer = match (path, &service.dashboard) {
        ("/stacksz", _) => threads::show(),
        ("/dashboard", Some(dashboard)) => return Ok(page(dashboard)),
        ("/dashboard/act", Some(dashboard)) if dashboard.has_actions => {
            actions::act(request, service, peer).await
        }
        (path, _) => ask(service, path, request.uri().query().unwrap_or_default()).await,
    };
    Ok(response(answer))
}

/// The path behind the base path, which itself is the index; `None`: nothing of ours.
fn inner_path<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    match path.strip_prefix(base)? {
        "" => Some("/"),
        "/" if !base.is_empty() => None,
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

/// Asks the event loop.
async fn ask(service: &Service, path: &str, query: &str) -> MonitorAnswer {
    let (reply, answer) = oneshot::channel();
    service.inputs.send(Input::Monitor(MonitorRequest {
        path: path.to_owned(),
        query: query.to_owned(),
        reply,
    }));
    let answer = tokio::time::timeout(Duration::from_secs(MONITOR_WAIT_S), answer).await;
    match answer {
        Ok(Ok(answer)) => answer,
        _ => text(503, "the server is busy or stopping\n"),
    }
}

fn text(status: u16, text: &str) -> MonitorAnswer {
    MonitorAnswer {
        status,
        content_type: "text/plain; charset=utf-8",
        body: text.as_bytes().to_vec(),
    }
}

fn page(dashboard: &Dashboard) -> Response<Full<Bytes>> {
    let mut response = response(MonitorAnswer {
        status: 200,
        content_type: "text/html; charset=utf-8",
        body: dashboard.page(),
    });
    dashboard.protect(response.headers_mut());
    response
}

fn unauthorized() -> Response<Full<Bytes>> {
    let mut response = response(text(401, "who is there?\n"));
    let realm = HeaderValue::from_static("Basic realm=\"monitoring\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, realm);
    response
}

fn response(answer: MonitorAnswer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if answer.content_type.starts_with("application/json") {
        // As the reference: pages of others may show what this port shows to everybody. With
        // credentials no browser takes a star for an answer.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_base_path_is_served() {
        for (path, base, expected) in [
            ("/", "", Some("/")),
            ("/varz", "", Some("/varz")),
            ("/base", "/base", Some("/")),
            ("/base/varz", "/base", Some("/varz")),
            ("/base/", "/base", None),
            ("/basement", "/base", None),
            ("/varz", "/base", None),
        ] {
            assert_eq!(inner_path(path, base), expected, "{path} below {base:?}");
        }
    }
}
