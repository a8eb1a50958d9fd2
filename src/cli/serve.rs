//! `wsloop serve`, `echo` and `broadcast`: a server from arguments, ended by SIGINT or SIGTERM.

use super::args::{Route, Serve};
use super::descriptors;
use super::listen::{self, Listener};
use super::logging;
use super::write_stdout;
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::os::unix::net::UnixListener;
use wsloop::handlers::{Broadcast, Echo, Metrics, Reply};
use wsloop::page::Page;
use wsloop::{Config, Handler, Router, Server};

/// Serves until a signal.
///
/// # Errors
/// What the system says, naming the address that cannot be listened on.
pub(super) fn run(serve: Serve) -> io::Result<()> {
    logging::init(serve.log_format);
    for name in &serve.unknown_variables {
        log::warn!("ignored the variable {name}: there is no flag of this name");
    }
    let (listeners, mut files) = listen::open(&serve)?;
    descriptors::raise();
    let router = router(&serve);
    let mut server = Server::new(config(&serve), router)?;
    // Before the announcement, so that whoever waits for it can stop the server at once.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    server.register(&mut signals, SIGNALS)?;
    server.handler_mut().watch(SIGNALS, move |cx| {
        // One request, even if both signals came at once: the second would cut the goodbye short.
        if signals.pending().count() > 0 {
            // While the sockets are still open, and so before a successor can have taken their places.
            files.clear();
            cx.stop();
        }
    });
    let mut announcement = String::new();
    for listener in listeners {
        let url = match listener {
            Listener::Tcp(listener) => format!("ws://{}/", server.listen_on(listener)?),
            Listener::Unix(listener) => {
                let url = unix_url(&listener)?;
                server.listen_on_unix(listener)?;
                url
            }
        };
        announcement += &format!("listening on {url}\n");
    }
    // For people, and for programs that wait for it.
    write_stdout(&announcement)?;
    if serve.page
        && let Some(address) = server.local_addrs().next()
    {
        log::info!("page to try the server with: http://{address}/");
    }
    server.run()
}

/// The limits, with the default that follows the descriptors as they are now.
fn config(serve: &Serve) -> Config {
    let config = serve.config.clone();
    if serve.has_connections_max {
        return config;
    }
    Config {
        connections_max: Config::default().connections_max,
        ..config
    }
}

/// As npm ws writes it.
fn unix_url(listener: &UnixListener) -> io::Result<String> {
    let addr = listener.local_addr()?;
    let path = addr.as_pathname();
    Ok(
        path.map_or("a Unix socket without a path".to_owned(), |path| {
            format!("ws+unix:{}", path.to_string_lossy())
        }),
    )
}

fn router(serve: &Serve) -> Router {
    let mut router = Router::new();
    for (path, route) in &serve.routes {
        if !(serve.page && path == ROOT) {
            router = add_route(router, path, route, None);
        }
    }
    if serve.page {
        // WebSockets go where they would go without the page.
        let named = |name: &str| serve.routes.iter().find(|(path, _)| path == name);
        router = match named(ROOT).or_else(|| named("/*")) {
            Some((_, route)) => add_route(router, ROOT, route, Some(Page::new())),
            None => router.route(ROOT, Page::new()),
        };
    }
    // Somebody may want the path for a WebSocket.
    let mut paths = serve
        .routes
        .iter()
        .map(|(path, _)| path)
        .chain(&serve.metrics);
    if paths.all(|path| path != HEALTH) {
        let health = Page::bytes("text/plain; charset=utf-8", &b"ok\n"[..]);
        router = match serve.routes.iter().find(|(path, _)| path == "/*") {
            Some((_, route)) => add_route(router, HEALTH, route, Some(health)),
            None => router.route(HEALTH, health),
        };
    }
    if let Some(path) = &serve.metrics {
        router = router.route(path, Metrics);
    }
    serve
        .origins
        .iter()
        .fold(router, |router, origin| router.allow_origin(origin))
}

/// Adds a route for the WebSockets, beside a page for plain GET if there is one.
fn add_route(router: Router, path: &str, route: &Route, page: Option<Page>) -> Router {
    fn add_with_page(
        router: Router,
        path: &str,
        handler: impl Handler + Send + 'static,
        page: Option<Page>,
    ) -> Router {
        match page {
            Some(page) => router.route(path, page.beside(handler)),
            None => router.route(path, handler),
        }
    }
    match route {
        Route::Echo { prefix } => add_with_page(router, path, Echo::with_prefix(prefix), page),
        Route::Broadcast => add_with_page(router, path, Broadcast, page),
        Route::Reply { text } => add_with_page(router, path, Reply::new(text), page),
    }
}

/// The same on every system that has them.
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// The key of the signals among the server's sources.
const SIGNALS: usize = 0;

/// Where the page is.
const ROOT: &str = "/";

/// Where a load balancer asks whether the server lives.
const HEALTH: &str = "/healthz";
