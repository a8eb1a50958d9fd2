/* Benchmark peer: libwebsockets. One service thread, no extensions.
 * Usage: lws PORT [poll|uv]. Listens on 127.0.0.1 only.
 *   any path    echoes each text or binary message to its sender
 *   /broadcast  sends each message to all members, including its sender
 * The second argument selects the event loop: the library's own poll()
 * (default) or libuv, which uses epoll.
 * The fragments of a message are assembled and sent as one frame. */
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_MESSAGE ((size_t)32 << 20)
#define CHUNK 65536

/* One message, with a reference count because the members of a broadcast
 * share it. The library writes the frame header into the LWS_PRE bytes before
 * the payload. The header is the same for each receiver, so sharing is safe. */
struct msg {
    size_t refs, len, cap;
    int binary;
    unsigned char buf[]; /* LWS_PRE bytes, then cap bytes */
};

struct node {
    struct node *next;
    struct msg *msg;
};

struct session {
    struct lws *wsi;
    struct msg *in;             /* the message being received */
    struct node *head, *tail;   /* unsent messages, without a limit */
    int is_member;
    struct session *prev, *next; /* the list of members */
};

static struct session *members;

static struct msg *msg_grow(struct msg *m, size_t need)
{
    if (m && m->cap >= need)
        return m;
    size_t cap = need;
    /* Grow by doubling, so many fragments do not cost many copies. */
    if (m && cap < m->cap * 2)
        cap = m->cap * 2;
    struct msg *n = realloc(m, sizeof *n + LWS_PRE + cap);
    if (!n)
        return NULL;
    if (!m) {
        n->refs = 1;
        n->len = 0;
        n->binary = 0;
    }
    n->cap = cap;
    return n;
}

static void msg_drop(struct msg *m)
{
    if (m && --m->refs == 0)
        free(m);
}

static int enqueue(struct session *s, struct msg *m)
{
    struct node *n = malloc(sizeof *n);
    if (!n)
        return -1;
    n->msg = m;
    n->next = NULL;
    m->refs++;
    if (s->tail) {
        s->tail->next = n;
    } else {
        s->head = n;
        lws_callback_on_writable(s->wsi);
    }
    s->tail = n;
    return 0;
}

static int on_receive(struct session *s, const void *in, size_t len)
{
    struct lws *wsi = s->wsi;
    size_t have = s->in ? s->in->len : 0;
    /* Allocate memory for the rest of this frame at once. */
    size_t need = have + len + lws_remaining_packet_payload(wsi);
    if (need > MAX_MESSAGE)
        return -1;
    struct msg *m = msg_grow(s->in, need);
    if (!m)
        return -1;
    if (!s->in)
        m->binary = lws_frame_is_binary(wsi);
    s->in = m;
    if (len)
        memcpy(m->buf + LWS_PRE + m->len, in, len);
    m->len += len;
    if (lws_remaining_packet_payload(wsi) || !lws_is_final_fragment(wsi))
        return 0;

    s->in = NULL;
    int bad = 0;
    if (s->is_member) {
        for (struct session *p = members; p; p = p->next)
            bad |= enqueue(p, m);
    } else {
        bad = enqueue(s, m);
    }
    msg_drop(m);
    return bad;
}

static int on_writable(struct session *s)
{
    /* Send until the socket is full. The library buffers the rest of a
     * message that the socket has accepted only in part. */
    while (s->head && !lws_partial_buffered(s->wsi)) {
        struct node *n = s->head;
        struct msg *m = n->msg;
        int sent = lws_write(s->wsi, m->buf + LWS_PRE, m->len,
                             m->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
        s->head = n->next;
        if (!s->head)
            s->tail = NULL;
        free(n);
        int bad = sent < (int)m->len;
        msg_drop(m);
        if (bad)
            return -1;
    }
    if (s->head)
        lws_callback_on_writable(s->wsi);
    return 0;
}

static void on_closed(struct session *s)
{
    if (s->is_member) {
        if (s->prev)
            s->prev->next = s->next;
        else
            members = s->next;
        if (s->next)
            s->next->prev = s->prev;
    }
    while (s->head) {
        struct node *n = s->head;
        s->head = n->next;
        msg_drop(n->msg);
        free(n);
    }
    msg_drop(s->in);
    memset(s, 0, sizeof *s);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason,
                    void *user, void *in, size_t len)
{
    struct session *s = user;
    char path[64];

    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        memset(s, 0, sizeof *s);
        s->wsi = wsi;
        /* A path too long for the buffer is not /broadcast. */
        if (lws_hdr_copy(wsi, path, sizeof path, WSI_TOKEN_GET_URI) > 0 &&
            !strcmp(path, "/broadcast")) {
            s->is_member = 1;
            s->next = members;
            if (members)
                members->prev = s;
            members = s;
        }
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return on_receive(s, in, len);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_writable(s);
    case LWS_CALLBACK_CLOSED:
        on_closed(s);
        return 0;
    default:
        return lws_callback_http_dummy(wsi, reason, user, in, len);
    }
}

/* Without this callback the library stops its loop at SIGTERM, but the
 * process does not exit. */
static void on_signal(void *handle, int number)
{
    (void)handle;
    exit(128 + number);
}

int main(int argc, char **argv)
{
    int port = argc == 2 || argc == 3 ? atoi(argv[1]) : 0;
    int uv = argc == 3 && !strcmp(argv[2], "uv");
    if (port < 1 || port > 65535 ||
        (argc == 3 && !uv && strcmp(argv[2], "poll"))) {
        fprintf(stderr, "usage: lws PORT [poll|uv]\n");
        return 2;
    }
    lws_set_log_level(LLL_ERR, NULL);

    static const struct lws_protocols protocols[] = {
        /* With this tx size, only the kernel limits the bytes per send. */
        { .name = "echo", .callback = callback,
          .per_session_data_size = sizeof(struct session),
          .rx_buffer_size = CHUNK, .tx_packet_size = MAX_MESSAGE },
        { 0 }
    };
    /* No keep-alive pings and no idle timeout within a benchmark run. */
    static const lws_retry_bo_t quiet = {
        .secs_since_valid_ping = 65000, .secs_since_valid_hangup = 65010
    };
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof info);
    info.port = port;
    info.iface = "127.0.0.1";
    info.protocols = protocols;
    info.extensions = NULL;
    info.retry_and_idle_policy = &quiet;
    info.pt_serv_buf_size = CHUNK;
    info.count_threads = 1;
    info.signal_cb = on_signal;
    info.gid = info.uid = -1;
    /* Fail if the port is in use. UTF-8 is checked only with VALIDATE_UTF8. */
    info.options = LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND |
                   LWS_SERVER_OPTION_VALIDATE_UTF8 |
                   LWS_SERVER_OPTION_DISABLE_IPV6 |
                   (uv ? LWS_SERVER_OPTION_LIBUV : 0);

    struct lws_context *ctx = lws_create_context(&info);
    if (!ctx) {
        fprintf(stderr, "lws: cannot start\n");
        return 1;
    }
    puts("listening");
    fflush(stdout);
    while (lws_service(ctx, 0) >= 0)
        ;
    lws_context_destroy(ctx);
    return 0;
}
