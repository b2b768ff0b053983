/* Load generator for an SNI proxy: Istio-style ClientHellos in, and a TCP end behind the proxy that strips them.
 *
 *   load sink ID                        serve on a free port of loopback, print it; ends when stdin ends
 *   load connect PORT COUNT INFLIGHT    one connection a request: hello, 64 bytes back, close
 *   load roundtrip PORT COUNT OPEN      64 bytes there and back on OPEN connections, one in flight on each
 *   load up|down PORT BYTES OPEN        bulk in one direction, BYTES in all
 *   load idle PORT OPEN                 open, print a line, hold until stdin ends
 *   load first PORT                     try until the first connection is answered; print CLOCK_MONOTONIC then
 *   load steady PORT PACE_US OPEN       open, then 64 bytes there and back on each connection every PACE_US; at each
 *                                       line on stdin report the time since the last one; ends when stdin ends
 *
 * No TLS is spoken: the proxy under test forwards the hello unread, so the sink drops it. What the sink has to do
 * stands in the hello's random bytes, so that no message is needed for it. Everything is one thread and closed loop:
 * the next request begins when the last one ended. The answer is one line of JSON, with the CPU of this process apart.
 * SIGTERM ends connect early: nothing new is begun. In steady alone the clock decides when a request is due, and one
 * that finds its connection still waiting counts from when it was due: a stall is seen by all that it delayed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    HELLO_BYTES = 517, /* what OpenSSL pads to; Envoy's BoringSSL sends the same */
    RANDOM_AT = 11,    /* record 5, handshake 4, version 2 */
    ANSWER_BYTES = 64,
    CHUNK_BYTES = 256 * 1024,
    EVENTS = 256,
    MAX_CHANGES = 1024,
    DEADLINE_S = 60,
    WINDOW = 4 * 1024 * 1024, /* round trips that one report of steady can hold */
};

enum work { ECHO = 1, DISCARD, PRODUCE };

#define SNI "outbound_.80_._.echo-svc.default.svc.cluster.local"
static const unsigned char MARK[4] = {'e', 'g', 'b', '1'};
static unsigned char chunk[CHUNK_BYTES];
static unsigned char hello[HELLO_BYTES];

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* ---- the hello ---- */

static unsigned char *put16(unsigned char *at, size_t value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
    return at + 2;
}

static unsigned char *extension(unsigned char *at, unsigned type, const void *body, size_t bytes)
{
    at = put16(put16(at, type), bytes);
    memcpy(at, body, bytes);
    return at + bytes;
}

/* What an Envoy sidecar sends to an east-west gateway: TLS 1.3 with X25519, SNI-DNAT name, ALPN istio, padded. */
static void build_hello(enum work work, uint64_t bytes)
{
    static const unsigned char groups[] = {0, 4, 0, 29, 0, 23};
    static const unsigned char formats[] = {1, 0};
    static const unsigned char schemes[] = {0, 8, 4, 3, 8, 4, 4, 1, 5, 3};
    static const unsigned char versions[] = {4, 3, 4, 3, 3};
    static const unsigned char modes[] = {1, 1};
    static const unsigned char alpn[] = {0, 6, 5, 'i', 's', 't', 'i', 'o'};
    static const unsigned char ciphers[] = {0x13, 0x01, 0x13, 0x02, 0x13, 0x03, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30};
    unsigned char name[sizeof SNI + 8], share[38], *at = hello, *extensions;
    const size_t sni = strlen(SNI);

    memset(hello, 0, sizeof hello);
    *at++ = 22;
    at = put16(put16(at, 0x0301), HELLO_BYTES - 5);
    *at++ = 1;
    *at++ = 0;
    at = put16(put16(at, HELLO_BYTES - 9), 0x0303);
    memcpy(at, MARK, sizeof MARK);
    at[4] = (unsigned char)work;
    for (int i = 0; i < 8; i++)
        at[5 + i] = (unsigned char)(bytes >> (8 * i));
    at += 32;
    *at++ = 32; /* legacy session id, as middleboxes like it */
    memset(at, 0x5a, 32);
    at = put16(at + 32, sizeof ciphers);
    memcpy(at, ciphers, sizeof ciphers);
    at += sizeof ciphers;
    *at++ = 1;
    *at++ = 0;
    extensions = at;
    at += 2;
    put16(put16(name, sni + 3) + 1, sni);
    name[2] = 0;
    memcpy(name + 5, SNI, sni);
    at = extension(at, 0, name, sni + 5);
    at = extension(at, 11, formats, sizeof formats);
    at = extension(at, 10, groups, sizeof groups);
    at = extension(at, 16, alpn, sizeof alpn);
    at = extension(at, 23, "", 0);
    at = extension(at, 13, schemes, sizeof schemes);
    at = extension(at, 43, versions, sizeof versions);
    at = extension(at, 45, modes, sizeof modes);
    memset(share, 0x42, sizeof share);
    put16(put16(put16(share, 36), 29), 32);
    at = extension(at, 51, share, sizeof share);
    put16(put16(at, 21), (size_t)(hello + HELLO_BYTES - at - 4)); /* padding of zeros up to the end */
    put16(extensions, (size_t)(hello + HELLO_BYTES - extensions - 2));
}

/* ---- sockets ---- */

struct peer {
    int fd;
    enum work work;
    bool greeted;    /* sink: hello taken and answered; client: answer received */
    bool sent_hello; /* client */
    unsigned got;    /* bytes of the hello (sink) or of the answer (client) */
    uint64_t left;   /* bulk bytes still to move */
    uint64_t begun_ns;
    unsigned due;    /* steady: requests that wait for the answer to an earlier one */
    bool asked;      /* steady */
    unsigned char head[HELLO_BYTES];
};

static int epoll;

static struct sockaddr_in loopback(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void watch(int operation, struct peer *peer, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = peer};
    if (epoll_ctl(epoll, operation, peer->fd, &event) < 0)
        fail("epoll_ctl");
}

static void no_delay(int fd)
{
    const int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail("TCP_NODELAY");
}

/* Bulk out until the socket is full. False when the peer is gone. */
static bool produce(struct peer *peer)
{
    while (peer->left) {
        const size_t wanted = peer->left < CHUNK_BYTES ? (size_t)peer->left : CHUNK_BYTES;
        const ssize_t sent = send(peer->fd, chunk, wanted, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN;
        peer->left -= (uint64_t)sent;
    }
    return true;
}

/* Drop what has come in, uncopied: the generator shall cost little. 1: more may come, 0: end, -1: error. */
static int discard(struct peer *peer, uint64_t *counted)
{
    for (;;) {
        const ssize_t got = recv(peer->fd, chunk, CHUNK_BYTES, MSG_TRUNC);
        if (got < 0)
            return errno == EAGAIN ? 1 : -1;
        if (got == 0)
            return 0;
        *counted += (uint64_t)got;
    }
}

/* ---- sink ---- */

static unsigned char answer[ANSWER_BYTES];

/* False when the connection is over. */
static bool serve(struct peer *peer, uint32_t events)
{
    if (!peer->greeted) {
        const ssize_t got = recv(peer->fd, peer->head + peer->got, HELLO_BYTES - peer->got, 0);
        if (got <= 0)
            return got < 0 && errno == EAGAIN;
        peer->got += (unsigned)got;
        if (peer->got < HELLO_BYTES)
            return true;
        if (memcmp(peer->head + RANDOM_AT, MARK, sizeof MARK) != 0)
            return false;
        peer->work = (enum work)peer->head[RANDOM_AT + 4];
        for (int i = 7; i >= 0; i--)
            peer->left = peer->left << 8 | peer->head[RANDOM_AT + 5 + i];
        peer->greeted = true;
        if (send(peer->fd, answer, sizeof answer, MSG_NOSIGNAL) != sizeof answer)
            return false;
        if (peer->work == PRODUCE)
            watch(EPOLL_CTL_MOD, peer, EPOLLOUT);
        return true;
    }
    if (peer->work == PRODUCE) /* closed after the last byte */
        return (events & (EPOLLERR | EPOLLHUP)) == 0 && produce(peer) && peer->left;
    if (peer->work == DISCARD) {
        uint64_t counted = 0;
        const int state = discard(peer, &counted);
        peer->left -= counted < peer->left ? counted : peer->left;
        if (counted && peer->left == 0) /* the sender waits for this */
            return send(peer->fd, answer, 1, MSG_NOSIGNAL) == 1 && state == 1;
        return state == 1;
    }
    const ssize_t got = recv(peer->fd, peer->head, sizeof peer->head, 0);
    if (got < 0)
        return errno == EAGAIN;
    return got > 0 && send(peer->fd, peer->head, (size_t)got, MSG_NOSIGNAL) == got;
}

static int sink(unsigned id)
{
    struct sockaddr_in address = loopback(0);
    socklen_t bytes = sizeof address;
    struct peer listener = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)}, input = {.fd = 0};
    struct epoll_event events[EVENTS];

    memset(answer, (int)id, sizeof answer);
    if (listener.fd < 0 || bind(listener.fd, (struct sockaddr *)&address, bytes) < 0 || listen(listener.fd, 4096) < 0 ||
        getsockname(listener.fd, (struct sockaddr *)&address, &bytes) < 0)
        fail("listen");
    watch(EPOLL_CTL_ADD, &listener, EPOLLIN);
    watch(EPOLL_CTL_ADD, &input, EPOLLIN);
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        const int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer == &input)
                return 0;
            if (peer == &listener) {
                int fd;
                while ((fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    struct peer *made = calloc(1, sizeof *made);
                    if (made == NULL)
                        fail("memory");
                    made->fd = fd;
                    no_delay(fd);
                    watch(EPOLL_CTL_ADD, made, EPOLLIN);
                }
            } else if (!serve(peer, events[i].events)) {
                close(peer->fd);
                free(peer);
            }
        }
    }
}

/* ---- clients ---- */

static unsigned target_port;
static uint64_t failures;
static uint32_t *latencies_ns; /* one each, saturated at 4.29 s */
static uint64_t measured, latency_room;

/* Times at which another sink began to answer than before. */
static struct {
    uint64_t ns;
    unsigned id;
} changes[MAX_CHANGES];
static unsigned change_count;

static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

static void note(uint64_t begun_ns, uint64_t ended_ns)
{
    const uint64_t took = ended_ns - begun_ns;
    if (measured < latency_room)
        latencies_ns[measured++] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
}

static void open_peer(struct peer *peer)
{
    const struct sockaddr_in address = loopback(target_port);
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (peer->fd < 0)
        fail("socket");
    no_delay(peer->fd);
    peer->greeted = peer->sent_hello = false;
    peer->got = 0;
    peer->begun_ns = now_ns();
    if (connect(peer->fd, (const struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect");
    watch(EPOLL_CTL_ADD, peer, EPOLLIN | EPOLLOUT);
}

/* Connect, hello, answer. 1: answered just now, 0: not yet, -1: failed. */
static int greet(struct peer *peer, uint32_t events)
{
    if (!peer->sent_hello) {
        if (events & (EPOLLERR | EPOLLHUP) || send(peer->fd, hello, HELLO_BYTES, MSG_NOSIGNAL) != HELLO_BYTES)
            return -1;
        peer->sent_hello = true;
        watch(EPOLL_CTL_MOD, peer, EPOLLIN);
        return 0;
    }
    const ssize_t got = recv(peer->fd, peer->head + peer->got, ANSWER_BYTES - peer->got, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN ? 0 : -1;
    peer->got += (unsigned)got;
    peer->greeted = peer->got == ANSWER_BYTES;
    return peer->greeted ? 1 : 0;
}

static int wait_for(struct epoll_event *events)
{
    const int count = epoll_wait(epoll, events, EVENTS, DEADLINE_S * 1000);
    if (count == 0) {
        fprintf(stderr, "load: nothing happened for %d s\n", DEADLINE_S);
        exit(1);
    }
    return count < 0 ? 0 : count;
}

/* Open so many connections and get their greetings, a batch at a time so that no backlog runs over. */
static struct peer *open_greeted(unsigned count)
{
    struct peer *peers = calloc(count, sizeof *peers);
    struct epoll_event events[EVENTS];
    unsigned opened = 0, greeted = 0;

    if (peers == NULL)
        fail("memory");
    while (greeted < count) {
        while (opened < count && opened - greeted < 64)
            open_peer(&peers[opened++]);
        const int ready = wait_for(events);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer->greeted)
                continue;
            const int state = greet(peer, events[i].events);
            if (state < 0) {
                fprintf(stderr, "load: connection %u of %u was refused or cut\n", greeted + 1, count);
                exit(1);
            }
            greeted += state > 0;
        }
    }
    return peers;
}

/* How many there were. */
static uint64_t connections(uint64_t count, unsigned inflight)
{
    struct peer *peers = calloc(inflight, sizeof *peers);
    struct epoll_event events[EVENTS];
    uint64_t begun = inflight, ended = 0;

    if (peers == NULL)
        fail("memory");
    for (unsigned i = 0; i < inflight; i++)
        open_peer(&peers[i]);
    while (ended < begun) {
        const int ready = wait_for(events);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            const int state = greet(peer, events[i].events);
            if (state == 0)
                continue;
            const uint64_t now = now_ns();
            if (state > 0) {
                note(peer->begun_ns, now);
                if ((change_count == 0 || changes[change_count - 1].id != peer->head[0]) && change_count < MAX_CHANGES) {
                    changes[change_count].ns = now;
                    changes[change_count++].id = peer->head[0];
                }
            } else {
                failures++;
            }
            close(peer->fd);
            ended++;
            if (begun < count && !stopping) {
                begun++;
                open_peer(peer);
            }
        }
    }
    return ended;
}

static void ask(struct peer *peer)
{
    peer->got = 0;
    peer->begun_ns = now_ns();
    if (send(peer->fd, chunk, ANSWER_BYTES, MSG_NOSIGNAL) != ANSWER_BYTES)
        fail("send");
}

static void round_trips(uint64_t count, unsigned open, struct peer *peers)
{
    struct epoll_event events[EVENTS];
    uint64_t begun = open, ended = 0;

    for (unsigned i = 0; i < open; i++)
        ask(&peers[i]);
    while (ended < count) {
        const int ready = wait_for(events);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            const ssize_t got = recv(peer->fd, peer->head, ANSWER_BYTES - peer->got, 0);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got <= 0) {
                fprintf(stderr, "load: a connection was cut after %llu round trips\n", (unsigned long long)ended);
                exit(1);
            }
            peer->got += (unsigned)got;
            if (peer->got < ANSWER_BYTES)
                continue;
            note(peer->begun_ns, now_ns());
            ended++;
            if (begun < count) {
                begun++;
                ask(peer);
            }
        }
    }
}

static void report(uint64_t count, uint64_t begun_ns, double cpu_before_s);

static void bulk(bool up, uint64_t bytes, unsigned open, struct peer *peers)
{
    struct epoll_event events[EVENTS];
    unsigned running = open;
    uint64_t counted = 0;

    for (unsigned i = 0; i < open; i++) {
        peers[i].left = bytes / open;
        if (up)
            watch(EPOLL_CTL_MOD, &peers[i], EPOLLOUT);
    }
    while (running) {
        const int ready = wait_for(events);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            bool over = false;
            if (up && peer->left) {
                if (!produce(peer))
                    fail("bulk");
                if (!peer->left)
                    watch(EPOLL_CTL_MOD, peer, EPOLLIN);
            } else {
                const int state = discard(peer, &counted);
                if (state < 0)
                    fail("bulk");
                /* Up: the sink sends one byte once it has counted all. No end of stream: a naive relay loses it. */
                over = up || state == 0;
            }
            if (over) {
                running--;
                close(peer->fd);
            }
        }
    }
    if (counted != (up ? open : bytes / open * open)) {
        fprintf(stderr, "load: bulk ended after %llu bytes\n", (unsigned long long)counted);
        exit(1);
    }
}

/* The first request that is due and not sent; false when the connection was cut. */
static bool ask_due(struct peer *peer, uint64_t begun_ns)
{
    peer->due--;
    peer->asked = true;
    peer->got = 0;
    peer->begun_ns = begun_ns;
    return send(peer->fd, chunk, ANSWER_BYTES, MSG_NOSIGNAL) == ANSWER_BYTES;
}

static bool answered(struct peer *peer, uint64_t pace_ns)
{
    const ssize_t got = recv(peer->fd, peer->head, ANSWER_BYTES - peer->got, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    peer->got += (unsigned)got;
    if (peer->got < ANSWER_BYTES)
        return true;
    const uint64_t now = now_ns(), due_ns = peer->begun_ns + pace_ns;
    note(peer->begun_ns, now);
    peer->asked = false;
    return peer->due == 0 || ask_due(peer, due_ns < now ? due_ns : now);
}

/* True when a line came, false at the end. */
static bool line_came(void)
{
    char line[64];
    return read(0, line, sizeof line) > 0;
}

static void steady(unsigned pace_us, unsigned open, struct peer *peers)
{
    const uint64_t pace_ns = (uint64_t)pace_us * 1000u, tick_ns = pace_ns / open;
    const struct timespec tick = {.tv_sec = (time_t)(tick_ns / 1000000000u), .tv_nsec = (long)(tick_ns % 1000000000u)};
    const struct itimerspec when = {.it_interval = tick, .it_value = tick};
    struct peer timer = {.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)}, input = {.fd = 0};
    struct epoll_event events[EVENTS];
    uint64_t ticks, next = 0, begun = now_ns();
    double cpu = cpu_s();

    if (timer.fd < 0 || timerfd_settime(timer.fd, 0, &when, NULL) < 0)
        fail("timer");
    watch(EPOLL_CTL_ADD, &timer, EPOLLIN);
    watch(EPOLL_CTL_ADD, &input, EPOLLIN);
    printf("{\"open\": %u}\n", open);
    for (;;) {
        const int ready = wait_for(events);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            bool whole = true;
            if (peer == &input) {
                if (!line_came())
                    return;
                report(measured, begun, cpu);
                measured = 0;
                begun = now_ns();
                cpu = cpu_s();
            } else if (peer != &timer) {
                whole = answered(peer, pace_ns);
            } else if (read(timer.fd, &ticks, sizeof ticks) == sizeof ticks) {
                for (; ticks && whole; ticks--) {
                    struct peer *asking = &peers[next++ % open];
                    asking->due++;
                    whole = asking->asked || ask_due(asking, now_ns());
                }
            }
            if (!whole) {
                fprintf(stderr, "load: a connection was cut\n");
                exit(1);
            }
        }
    }
}

static void first(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    const struct sockaddr_in address = loopback(target_port);
    const uint64_t deadline = now_ns() + (uint64_t)DEADLINE_S * 1000000000u;

    while (now_ns() < deadline) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0)
            fail("socket");
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
            send(fd, hello, HELLO_BYTES, MSG_NOSIGNAL) == HELLO_BYTES && recv(fd, chunk, ANSWER_BYTES, 0) > 0) {
            printf("{\"answered_ns\": %llu}\n", (unsigned long long)now_ns());
            return;
        }
        close(fd);
        nanosleep(&pause, NULL);
    }
    fprintf(stderr, "load: no answer within %d s\n", DEADLINE_S);
    exit(1);
}

/* ---- report ---- */

static int ascending(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double quantile_us(double q)
{
    return measured ? latencies_ns[(uint64_t)(q * (double)(measured - 1))] / 1e3 : 0.0;
}

static void report(uint64_t count, uint64_t begun_ns, double cpu_before_s)
{
    const double seconds = (double)(now_ns() - begun_ns) / 1e9, cpu = cpu_s() - cpu_before_s;
    qsort(latencies_ns, measured, sizeof *latencies_ns, ascending);
    printf("{\"count\": %llu, \"failures\": %llu, \"seconds\": %.6f, \"cpu_s\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"p999_us\": %.1f, \"max_us\": %.1f, \"changes\": [",
           (unsigned long long)count, (unsigned long long)failures, seconds, cpu, quantile_us(0.5), quantile_us(0.99),
           quantile_us(0.999), quantile_us(1.0));
    for (unsigned i = 0; i < change_count; i++)
        printf("%s[%llu, %u]", i ? ", " : "", (unsigned long long)changes[i].ns, changes[i].id);
    printf("]}\n");
}

static uint64_t number(const char *text)
{
    char *end;
    const unsigned long long value = strtoull(text, &end, 10);
    if (*end != '\0' || value == 0) {
        fprintf(stderr, "load: %s is not a number above 0\n", text);
        exit(2);
    }
    return value;
}

int main(int count, char **arguments)
{
    struct rlimit files;
    const char *mode = count > 1 ? arguments[1] : "";
    struct peer *peers;

    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll = epoll_create1(0);
    if (epoll < 0)
        fail("epoll_create1");
    if (count == 3 && strcmp(mode, "sink") == 0)
        return sink((unsigned)number(arguments[2]));
    if (count >= 3)
        target_port = (unsigned)number(arguments[2]);
    build_hello(ECHO, 0);
    if (count == 3 && strcmp(mode, "first") == 0) {
        first();
        return 0;
    }
    if (count == 4 && strcmp(mode, "idle") == 0) {
        open_greeted((unsigned)number(arguments[3]));
        printf("{\"open\": %s}\n", arguments[3]);
        while (read(0, chunk, sizeof chunk) > 0)
            ;
        return 0;
    }
    if (count != 5) {
        fprintf(stderr, "load: see the head of load.c for the arguments\n");
        return 2;
    }
    const uint64_t amount = number(arguments[3]);
    const unsigned open = (unsigned)number(arguments[4]);
    const bool up = strcmp(mode, "up") == 0;
    if (up || strcmp(mode, "down") == 0) {
        build_hello(up ? DISCARD : PRODUCE, amount / open);
        peers = open_greeted(open);
        const uint64_t begun = now_ns();
        const double cpu = cpu_s();
        bulk(up, amount, open, peers);
        report(amount, begun, cpu);
        return 0;
    }
    if (strcmp(mode, "steady") == 0) {
        latency_room = WINDOW;
        latencies_ns = calloc(latency_room, sizeof *latencies_ns);
        if (latencies_ns == NULL)
            fail("memory");
        steady((unsigned)amount, open, open_greeted(open));
        return 0;
    }
    latency_room = amount;
    latencies_ns = calloc(latency_room, sizeof *latencies_ns);
    if (latencies_ns == NULL)
        fail("memory");
    if (strcmp(mode, "connect") == 0) {
        const uint64_t begun = now_ns();
        const double cpu = cpu_s();
        const struct sigaction on_term = {.sa_handler = stop};
        sigaction(SIGTERM, &on_term, NULL);
        const uint64_t ended = connections(amount, open < amount ? open : (unsigned)amount);
        report(ended, begun, cpu);
        return 0;
    }
    if (strcmp(mode, "roundtrip") == 0 && amount >= open) {
        peers = open_greeted(open);
        const uint64_t begun = now_ns();
        const double cpu = cpu_s();
        round_trips(amount, open, peers);
        report(amount, begun, cpu);
        return 0;
    }
    fprintf(stderr, "load: no mode %s\n", mode);
    return 2;
}
