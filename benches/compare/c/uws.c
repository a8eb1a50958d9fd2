/* Benchmark peer: uWebSockets through its C API. One thread.
 * Use: uws PORT. It listens on 127.0.0.1 only.
 *   any path    each text or binary message goes back to its sender
 *   /broadcast  each message goes to all members, its sender too */
#include <stdio.h>
#include <stdlib.h>
#include "uws_api.h"

#define TOPIC "all"
#define TOPIC_LEN 3

static uws_app_t *app;

static void echo_message(uws_websocket_t *ws, const char *msg, size_t len,
                         uws_opcode_t op, void *user)
{
    (void)user;
    /* A dropped message would make the measurement wrong: say it. */
    if (uws_ws_send(0, ws, msg, len, op) == UWS_DROPPED)
        fprintf(stderr, "uws: echo dropped, %zu bytes\n", len);
}

static void room_open(uws_websocket_t *ws, void *user)
{
    (void)user;
    uws_ws_subscribe(0, ws, TOPIC, TOPIC_LEN);
}

static void room_message(uws_websocket_t *ws, const char *msg, size_t len,
                         uws_opcode_t op, void *user)
{
    (void)ws;
    (void)user;
    /* Publish on the app, not on the ws: the sender gets it too. */
    uws_publish(0, app, TOPIC, TOPIC_LEN, msg, len, op, false);
}

static void on_listen(struct us_listen_socket_t *ls,
                      uws_app_listen_config_t config, void *user)
{
    (void)config;
    (void)user;
    if (!ls) {
        fprintf(stderr, "uws: cannot listen\n");
        exit(1);
    }
    puts("listening");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int port = argc == 2 ? atoi(argv[1]) : 0;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "use: uws PORT\n");
        return 2;
    }
    struct us_socket_context_options_t no_tls = {0};
    app = uws_create_app(0, no_tls);
    if (!app)
        return 1;

    uws_socket_behavior_t b = {0};
    b.compression = UWS_COMPRESS_DISABLED;
    b.maxPayloadLength = 32u << 20;
    b.idleTimeout = 0;                 /* 0: never */
    b.maxLifetime = 0;                 /* 0: never */
    b.maxBackpressure = 64u << 20;
    b.closeOnBackpressureLimit = true; /* over the limit: close, so it is seen */
    b.sendPingsAutomatically = false;

    uws_socket_behavior_t room = b;
    room.open = room_open;
    room.message = room_message;
    uws_ws(0, app, "/broadcast", room, NULL);

    b.message = echo_message;
    uws_ws(0, app, "/*", b, NULL);

    /* options 1: the port is ours alone, a second server on it fails. */
    uws_app_listen_config_t at = { port, "127.0.0.1", 1 };
    uws_app_listen_with_config(0, app, at, on_listen, NULL);
    uws_app_run(0, app);
    return 0;
}
