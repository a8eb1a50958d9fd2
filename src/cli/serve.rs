//! `wsloop serve`, `echo` and `broadcast`: runs a server configured by arguments, until SIGINT or SIGTERM.

use super::args::{Host, ListenAddress, Origin, Route, Serve};
use super::descriptors;
use super::listen::{self, Listener, ListeningSocket, SocketFile};
use super::logging;
#[cfg(feature = "redis")]
use super::redis;
#[cfg(feature = "tls")]
use super::tls::{self, ServerTls};
use super::write_stdout;
use mio::Interest;
#[cfg(feature = "tls")]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
#[cfg(feature = "tls")]
use wsloop::When;
use wsloop::handlers::{Broadcast, Echo, Metrics, Reply};
use wsloop::page::{NoWebSockets, Page};
use wsloop::{
    Config, Context, Handler, HttpResponse, Id, ListenOptions, Message, Ready, Request, Router,
    Server, Upgrade,
};

/// Opens the listeners, prints their URLs on stdout and serves until SIGINT or SIGTERM arrives. The first one stops the
/// server gracefully, the second immediately. SIGUSR1 drains it. SIGHUP reloads the certificates, if they are from files.
///
/// # Errors
/// The error of a system call. If a listener cannot be opened, or a file cannot be used, the message names it.
pub(super) fn run(serve: Serve) -> io::Result<()> {
    logging::init(serve.log_format);
    for ignored in &serve.ignored_variables {
        log::warn!("ignored an environment variable: {ignored}");
    }
    #[cfg(feature = "tls")]
    let tls = tls::load(&serve)?;
    // Before the signals are registered: the file can be a named pipe, and SIGTERM must end the process while it waits for the
    // pipe's writer.
    #[cfg(feature = "redis")]
    let broker = serve.redis.as_ref().map(redis::with_password).transpose()?;
    let (listeners, files) = listen::open(&serve)?;
    #[cfg(feature = "tls")]
    tls::check(tls.as_ref(), &listeners)?;
    descriptors::raise();
    let has_metrics_listener = listeners.iter().any(|listener| listener.is_metrics);
    let hosts = allowed_hosts(&serve, &listeners, false)?;
    let metrics = || -> Box<dyn Handler> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &tls {
            return Box::new(Metrics.with_tls(&tls.tls));
        }
        Box::new(Metrics)
    };
    let router = if has_metrics_listener {
        router(&serve, None)
    } else {
        router(
            &serve,
            serve.metrics.as_deref().map(|path| (path, metrics())),
        )
    };
    let handler = Stoppable {
        router: restrict(router, &serve, &hosts),
        metrics: if has_metrics_listener {
            let hosts = allowed_hosts(&serve, &listeners, true)?;
            Some(metrics_router(&serve, metrics(), &hosts))
        } else {
            None
        },
        signals: Signals::new([SIGINT, SIGTERM, SIGUSR1])?,
        #[cfg(feature = "tls")]
        tls,
        files,
    };
    #[cfg(feature = "tls")]
    if handler.tls.as_ref().is_some_and(|tls| tls.is_reloadable) {
        handler.signals.add_signal(SIGHUP)?;
    }
    let mut server = Server::new(config(&serve), handler)?;
    #[cfg(feature = "redis")]
    if let (Some(settings), Some(redis)) = (broker, &serve.redis) {
        let backplane = wsloop::redis::Redis::new(settings);
        server.set_backplane(backplane, redis.options.clone())?;
    }
    // Registered before the URLs are printed, so that a program that waits for a URL can stop the server immediately.
    server.with_handler(|handler, cx| cx.register(&mut handler.signals, 0, Interest::READABLE))?;
    #[cfg(feature = "tls")]
    server.with_handler(|handler, cx| {
        if handler.tls.is_some() {
            cx.set_timer(When::Every(tls::DAY), 0);
        }
    });
    let mut announcement = String::new();
    let mut page_address = None;
    for listener in listeners {
        let options = server.handler().options(&listener);
        let Listener {
            socket,
            is_proxied,
            is_tls,
            is_metrics,
        } = listener;
        let (what, scheme) = match (is_metrics, is_tls) {
            (true, false) => ("metrics", "http"),
            (true, true) => ("metrics", "https"),
            (false, false) => ("listening", "ws"),
            (false, true) => ("listening", "wss"),
        };
        let url = match socket {
            ListeningSocket::Tcp(listener) => {
                let address = server.listen_on_with(listener, &options)?;
                if !is_proxied && !is_metrics {
                    page_address.get_or_insert((address, is_tls));
                }
                format!("{scheme}://{address}/")
            }
            ListeningSocket::Unix(listener) => {
                let url = unix_url(&listener, scheme)?;
                server.listen_on_unix_with(listener, &options)?;
                url
            }
        };
        let how = if is_proxied { " (PROXY protocol)" } else { "" };
        announcement += &format!("{what} on {url}{how}\n");
    }
    // Stdout, so that a program can wait for the URLs; the log goes to stderr.
    write_stdout(&announcement)?;
    if serve.page
        && let Some((address, is_tls)) = page_address
    {
        let scheme = if is_tls { "https" } else { "http" };
        log::info!("the built-in test page is at {scheme}://{address}/");
    }
    server.run()
}

/// Stops or drains the server, or reloads its certificates, when a signal arrives. All other events go to the router,
/// except those of listeners for metrics.
struct Stoppable {
    router: Router,
    /// Answers the requests of the listeners for metrics, if there are any. It accepts no WebSockets.
    metrics: Option<Router>,
    signals: Signals,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    /// The files of Unix sockets, which are removed when they are dropped.
    files: Vec<SocketFile>,
}

impl Stoppable {
    /// Returns the options of a listener. If a feature is missing, the arguments and the names of inherited sockets that
    /// need it were rejected.
    fn options(&self, listener: &Listener) -> ListenOptions {
        let options = match listener.is_metrics {
            true => ListenOptions::new().tag(METRICS_TAG).internal(),
            false => ListenOptions::new(),
        };
        #[cfg(feature = "proxy-protocol")]
        let options = match listener.is_proxied {
            true => options.proxy_protocol(),
            false => options,
        };
        #[cfg(not(feature = "proxy-protocol"))]
        debug_assert!(!listener.is_proxied);
        #[cfg(feature = "tls")]
        let options = match &self.tls {
            Some(tls) if listener.is_tls => options.tls(&tls.tls),
            Some(_) | None => options,
        };
        #[cfg(not(feature = "tls"))]
        debug_assert!(!listener.is_tls);
        options
    }

    /// Returns the router for a request.
    fn router_of(&mut self, cx: &Context<'_>, id: Id) -> &mut Router {
        match &mut self.metrics {
            Some(metrics) if cx.listener_tag(id) == METRICS_TAG => metrics,
            Some(_) | None => &mut self.router,
        }
    }
}

impl Handler for Stoppable {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        Some(&mut self.router)
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.router.on_start(cx);
        if let Some(metrics) = &mut self.metrics {
            metrics.on_start(cx);
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.router.on_message(cx, id, message);
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        self.router_of(cx, id)
            .on_upgrade(cx, id, request, upgrade)
            .map_err(|response| with_flag(request, response))
    }

    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
        with_flag(request, self.router_of(cx, id).on_http(cx, id, request))
    }

    fn on_source(&mut self, cx: &mut Context<'_>, _: u64, _: Ready) {
        let signals: Vec<i32> = self.signals.pending().collect();
        #[cfg(feature = "tls")]
        if signals.contains(&SIGHUP)
            && let Some(tls) = &self.tls
        {
            tls::reload(&tls.tls);
        }
        if signals.contains(&SIGUSR1) {
            cx.drain();
        }
        // The second call ends the graceful stop immediately, also if both signals arrived together.
        for _ in signals.iter().filter(|one| [SIGINT, SIGTERM].contains(one)) {
            // Removes the socket files while the sockets are still open. As long as a socket is open, another server that
            // starts finds its path in use and does not replace the file. So no file of another server is removed here.
            self.files.clear();
            cx.stop();
        }
    }

    #[cfg(feature = "tls")]
    fn on_timer(&mut self, _: &mut Context<'_>, _: u64) {
        if let Some(tls) = &self.tls {
            tls::warn_of_expiry(&tls.tls);
        }
    }
}

/// Names the flag that allows a refused request, in the body and so in the log. Only the router answers with 421 and
/// 403.
fn with_flag(request: &Request, response: HttpResponse) -> HttpResponse {
    let body = match response.status() {
        421 => "this Host is not allowed; --host NAME allows it\n",
        403 if request.headers().contains_key("origin") => {
            "this Origin is not allowed; --origin ORIGIN allows it\n"
        }
        403 => "a request without Origin is not allowed; --origin none allows it\n",
        _ => return response,
    };
    HttpResponse::new(response.status(), body)
}

/// Returns the hosts to serve on the listeners for metrics, or on the others. On the others: those of `--host`, or if
/// there are none and all of the TCP listeners are on loopback addresses, the names of these. On the listeners for
/// metrics, which scrapers and checks address by their own addresses: both. Empty: all hosts.
///
/// A website can reach a loopback address only by the browser of this machine, under its own name by DNS rebinding. It
/// cannot reach a Unix socket: requests there come from a proxy, with any host.
fn allowed_hosts(
    serve: &Serve,
    listeners: &[Listener],
    is_metrics: bool,
) -> io::Result<Vec<String>> {
    let listed = serve.hosts.iter().map(|host| match host {
        Host::Listed(host) => Some(host.clone()),
        Host::Any => None,
    });
    let Some(listed) = listed.collect::<Option<Vec<_>>>() else {
        return Ok(Vec::new());
    };
    if !listed.is_empty() && !is_metrics {
        return Ok(listed);
    }
    let mut hosts = Vec::new();
    for listener in listeners {
        if listener.is_metrics != is_metrics {
            continue;
        }
        let ListeningSocket::Tcp(socket) = &listener.socket else {
            continue;
        };
        // A browser cannot send a header of the PROXY protocol.
        if listener.is_proxied {
            continue;
        }
        let ip = socket.local_addr()?.ip();
        if !ip.to_canonical().is_loopback() {
            return Ok(Vec::new());
        }
        hosts.push(match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
    }
    if hosts.is_empty() {
        return Ok(hosts);
    }
    hosts.extend(LOOPBACK_HOSTS.map(str::to_owned));
    let names = serve.listen.iter().filter_map(|listen| match &listen.at {
        ListenAddress::Tcp(address) if listen.is_metrics == is_metrics => address.host(),
        ListenAddress::Tcp(_) | ListenAddress::Unix(_) => None,
    });
    hosts.extend(names.map(str::to_owned));
    hosts.extend(listed);
    Ok(hosts)
}

/// Restricts the router to `hosts`, and to the origins of `--origin` and the subprotocols of `--subprotocol`. Without
/// `--origin`, clients of restricted hosts are programs, which send no origin, and pages of these hosts.
fn restrict(router: Router, serve: &Serve, hosts: &[String]) -> Router {
    let router = hosts
        .iter()
        .fold(router, |router, host| router.allow_host(host));
    let router = serve
        .subprotocols
        .iter()
        .fold(router, |router, name| router.allow_subprotocol(name));
    if serve.origins.contains(&Origin::Any) {
        return router;
    }
    if serve.origins.is_empty() && !hosts.is_empty() {
        return router.allow_origins_of_hosts().allow_no_origin();
    }
    serve
        .origins
        .iter()
        .fold(router, |router, origin| match origin {
            Origin::Listed(origin) => router.allow_origin(origin),
            Origin::None => router.allow_no_origin(),
            Origin::Any => router,
        })
}

/// Returns the server's limits. Computes the default of `connections_max` again, because `descriptors::raise` has
/// changed the limit on open files since the arguments were parsed.
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

/// Returns the URL of a Unix socket, in the notation of npm ws: `ws+unix:PATH`.
fn unix_url(listener: &UnixListener, scheme: &str) -> io::Result<String> {
    let addr = listener.local_addr()?;
    let path = addr.as_pathname();
    Ok(
        path.map_or("a Unix socket without a path".to_owned(), |path| {
            format!("{scheme}+unix:{}", path.to_string_lossy())
        }),
    )
}

/// Builds the router: the given routes, the page at `/`, the checks and, unless they have a listener of their own, the
/// metrics, at their path.
fn router(serve: &Serve, metrics: Option<(&str, Box<dyn Handler>)>) -> Router {
    let mut router = Router::new();
    for (path, route) in &serve.routes {
        if !(serve.page && path == ROOT) {
            router = add_route(router, serve, path, route, Front::None);
        }
    }
    if serve.page {
        // WebSockets at `/` use the same route as without the page.
        let find = |name: &str| serve.routes.iter().find(|(path, _)| path == name);
        router = match find(ROOT).or_else(|| find("/*")) {
            Some((_, route)) => add_route(router, serve, ROOT, route, Front::Page),
            None => router.route(ROOT, Page::new()),
        };
    }
    for check in [Check::Health, Check::Readiness] {
        // A check is not added if its path is in use.
        let mut routes = serve.routes.iter();
        let path = check.path();
        if routes.any(|(route, _)| route == path)
            || metrics
                .as_ref()
                .is_some_and(|(metrics, _)| *metrics == path)
        {
            continue;
        }
        router = match serve.routes.iter().find(|(path, _)| path == "/*") {
            Some((_, route)) => add_route(router, serve, path, route, Front::Check(check)),
            None => router.route(path, check.beside(NoWebSockets)),
        };
    }
    if let Some((path, metrics)) = metrics {
        router = router.route(path, metrics);
    }
    router
}

/// Builds the router of the listeners for metrics: the metrics and the checks.
fn metrics_router(serve: &Serve, metrics: Box<dyn Handler>, hosts: &[String]) -> Router {
    let path = serve.metrics.as_deref().unwrap_or(METRICS_PATH_DEFAULT);
    let mut router = Router::new().route(path, metrics);
    for check in [Check::Health, Check::Readiness] {
        if check.path() != path {
            router = router.route(check.path(), check.beside(NoWebSockets));
        }
    }
    hosts
        .iter()
        .fold(router, |router, host| router.allow_host(host))
}

/// What answers plain GET requests on the path of a route.
#[derive(Clone, Copy)]
enum Front {
    /// The route's handler, with 426.
    None,
    Page,
    Check(Check),
}

/// Adds a route.
fn add_route(router: Router, serve: &Serve, path: &str, route: &Route, front: Front) -> Router {
    fn add_behind(
        router: Router,
        path: &str,
        handler: impl Handler + 'static,
        front: Front,
    ) -> Router {
        match front {
            Front::None => router.route(path, handler),
            Front::Page => router.route(path, Page::new().beside(handler)),
            Front::Check(check) => router.route(path, check.beside(handler)),
        }
    }
    match route {
        Route::Echo { prefix } => add_behind(router, path, Echo::with_prefix(prefix), front),
        Route::Broadcast => match serve.replay {
            None => add_behind(router, path, Broadcast, front),
            Some(replay) => add_behind(router, path, Broadcast.with_replay(replay), front),
        },
        Route::Reply { text } => add_behind(router, path, Reply::new(text), front),
    }
}

/// What a plain GET checks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Whether the server runs: 200.
    Health,
    /// Whether the server accepts sessions: 200, or 503 if it drains or stops.
    Readiness,
}

impl Check {
    fn path(self) -> &'static str {
        match self {
            Self::Health => "/healthz",
            Self::Readiness => "/readyz",
        }
    }

    fn beside<H>(self, sockets: H) -> Checked<H> {
        let check = self;
        Checked { check, sockets }
    }
}

/// Answers plain GET with the result of a check. Passes WebSockets to the handler in it.
struct Checked<H> {
    check: Check,
    sockets: H,
}

impl<H: Handler> Handler for Checked<H> {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        Some(&mut self.sockets)
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.sockets.on_message(cx, id, message);
    }

    fn on_http(&mut self, cx: &mut Context<'_>, _: Id, _: &Request) -> HttpResponse {
        match self.check {
            Check::Readiness if cx.is_draining() => HttpResponse::new(503, "draining\n"),
            Check::Readiness if is_broker_away(cx) => {
                HttpResponse::new(503, "the broker is away\n")
            }
            Check::Readiness | Check::Health => HttpResponse::new(200, "ok\n"),
        }
    }
}

/// Returns whether there was no connection to the broker yet, or none for longer than the grace period.
fn is_broker_away(cx: &Context<'_>) -> bool {
    #[cfg(feature = "backplane")]
    let is_away = cx.is_backplane_away()
        || (cx.stats().backplane).is_some_and(|backplane| backplane.connections == 0);
    #[cfg(not(feature = "backplane"))]
    let is_away = {
        let _ = cx;
        false
    };
    is_away
}

/// Hosts of a server that listens on loopback addresses only.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The tag of the connections of listeners for metrics.
const METRICS_TAG: u8 = 1;

/// Path of the metrics on listeners for metrics, without `--metrics`.
const METRICS_PATH_DEFAULT: &str = "/metrics";

/// Path of the built-in page.
const ROOT: &str = "/";
