/* The relay of floor.c over io_uring instead of epoll: everything but the socket itself is a request in the ring. To
 * measure against, not to use: it copies whatever it relays, has no timeouts, no limits, and trusts its clients.
 * Arguments: port, sink port, SNI.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 4096, BUFFER_BYTES = 16 * 1024, STEP_MASK = 15 };

/* What a completion is about: the low bits of its user data, a pointer to the connection above them. */
enum step { ACCEPTED, HELLO_CAME, CONNECTED, SENT, CAME, OVER };

struct side {
    struct pair *pair;
    struct side *other;
    int fd;
    bool ended;
    char bytes[BUFFER_BYTES]; /* from this side */
} __attribute__((aligned(16)));

struct pair {
    struct side client, upstream;
    int hello_bytes, pending;
    bool closing;
};

static struct io_uring ring;
static struct sockaddr_in sink;
static const char *server_name;
static int listener;

static struct io_uring_sqe *request(struct side *side, enum step step)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    if (entry == NULL) {
        io_uring_submit(&ring);
        entry = io_uring_get_sqe(&ring);
    }
    if (side)
        side->pair->pending++;
    entry->user_data = (uint64_t)side | step;
    return entry;
}

/* io_uring_prep_* of some versions clear the user data. */
#define ASK(side, step, prepare, ...)                        \
    do {                                                     \
        struct io_uring_sqe *entry_ = request(side, step);   \
        prepare(entry_, __VA_ARGS__);                        \
        entry_->user_data = (uint64_t)(side) | (step);       \
    } while (0)

static void receive(struct side *side, enum step step)
{
    ASK(side, step, io_uring_prep_recv, side->fd, side->bytes, sizeof side->bytes, 0);
}

static void drop(struct pair *pair)
{
    if (pair->closing)
        return;
    pair->closing = true;
    if (!pair->client.ended || !pair->upstream.ended) {
        /* A receive that waits would keep its socket open. */
        shutdown(pair->client.fd, SHUT_RDWR);
        if (pair->upstream.fd >= 0)
            shutdown(pair->upstream.fd, SHUT_RDWR);
    }
    ASK(&pair->client, OVER, io_uring_prep_close, pair->client.fd);
    if (pair->upstream.fd >= 0)
        ASK(&pair->upstream, OVER, io_uring_prep_close, pair->upstream.fd);
}

static void welcome(int fd)
{
    struct pair *pair = aligned_alloc(16, (sizeof *pair + 15) / 16 * 16);
    if (pair == NULL)
        exit(1);
    pair->client.pair = pair->upstream.pair = pair;
    pair->client.other = &pair->upstream;
    pair->upstream.other = &pair->client;
    pair->client.ended = pair->upstream.ended = pair->closing = false;
    pair->client.fd = fd;
    pair->upstream.fd = -1;
    pair->pending = 0;
    receive(&pair->client, HELLO_CAME);
}

static void connect_upstream(struct pair *pair, int hello_bytes)
{
    const int on = 1, off = 0, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (memmem(pair->client.bytes, (size_t)hello_bytes, server_name, strlen(server_name)) == NULL || fd < 0) {
        drop(pair);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
    pair->upstream.fd = fd;
    pair->hello_bytes = hello_bytes;
    ASK(&pair->upstream, CONNECTED, io_uring_prep_connect, fd, (struct sockaddr *)&sink, sizeof sink);
}

static void handle(struct side *side, enum step step, int result)
{
    struct pair *pair = side->pair;
    if (pair->closing)
        return;
    if (result < 0 || (step == HELLO_CAME && result == 0)) {
        drop(pair);
    } else if (step == HELLO_CAME) {
        connect_upstream(pair, result);
    } else if (step == CONNECTED) {
        ASK(&pair->client, SENT, io_uring_prep_send, side->fd, pair->client.bytes, (size_t)pair->hello_bytes, MSG_WAITALL);
        receive(side, CAME);
    } else if (step == SENT) {
        receive(side, CAME);
    } else if (step == CAME && result > 0) {
        ASK(side, SENT, io_uring_prep_send, side->other->fd, side->bytes, (size_t)result, MSG_WAITALL);
    } else if (step == CAME) {
        side->ended = true;
        if (side->other->ended)
            drop(pair);
        else
            ASK(side, OVER, io_uring_prep_shutdown, side->other->fd, SHUT_WR);
    }
}

static void accept_more(void)
{
    struct io_uring_sqe *entry = request(NULL, ACCEPTED);
    io_uring_prep_multishot_accept(entry, listener, NULL, NULL, 0);
    entry->user_data = ACCEPTED;
}

int main(int count, char **arguments)
{
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN,
    };
    struct sockaddr_in here = {.sin_family = AF_INET};
    const int on = 1;
    if (count != 4)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sink = here;
    here.sin_port = htons((uint16_t)atoi(arguments[1]));
    sink.sin_port = htons((uint16_t)atoi(arguments[2]));
    server_name = arguments[3];
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 4096) < 0) {
        perror("floor_uring: listen");
        return 1;
    }
    const int error = io_uring_queue_init_params(ENTRIES, &ring, &parameters);
    if (error < 0) {
        fprintf(stderr, "floor_uring: io_uring: %s\n", strerror(-error));
        return 1;
    }
    accept_more();
    for (;;) {
        struct io_uring_cqe *completion;
        unsigned head, seen = 0;
        io_uring_submit_and_wait(&ring, 1);
        io_uring_for_each_cqe(&ring, head, completion) {
            const enum step step = completion->user_data & STEP_MASK;
            struct side *side = (struct side *)(completion->user_data & ~(uint64_t)STEP_MASK);
            seen++;
            if (side) {
                side->pair->pending--;
                handle(side, step, completion->res);
                if (side->pair->closing && side->pair->pending == 0)
                    free(side->pair);
            } else {
                if (!(completion->flags & IORING_CQE_F_MORE))
                    accept_more();
                if (completion->res >= 0)
                    welcome(completion->res);
            }
        }
        io_uring_cq_advance(&ring, seen);
    }
}
