/* What the transfer is measured against: a file copied over one loopback connection by a C program, without and with
 * TLS 1.3. Source mapped and sent 1 MiB at a time; received 1 MiB at a time and written in place.
 *
 *   transfer_copy receive raw|tls FILE [CERT KEY]    prints the port; then, at the end, the seconds from the accepted
 *                                                    connection to the last byte written
 *   transfer_copy send raw|tls FILE PORT
 *
 * The receiver's address is in TRANSFER_HOST, or 127.0.0.1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

static void fail(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static struct sockaddr_in receiver(int port) {
    const char *host = getenv("TRANSFER_HOST");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host ? host : "127.0.0.1", &at.sin_addr) != 1) fail("TRANSFER_HOST");
    return at;
}

static void send_file(const char *path, int port, int tls) {
    struct sockaddr_in to = receiver(port);
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&to, sizeof to)) fail("connect");
    SSL *ssl = NULL;
    if (tls) {
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
        if (!SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384")) fail("cipher");
        ssl = SSL_new(context);
        SSL_set_fd(ssl, sock);
        if (SSL_connect(ssl) != 1) fail("TLS");
    }
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status)) fail(path);
    size_t size = (size_t)status.st_size;
    char *content = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
    if (content == MAP_FAILED) fail("mmap");
    for (size_t sent = 0; sent < size;) {
        size_t piece = size - sent < PIECE ? size - sent : PIECE;
        ssize_t count = ssl ? SSL_write(ssl, content + sent, (int)piece) : send(sock, content + sent, piece, 0);
        if (count <= 0) fail("send");
        sent += (size_t)count;
    }
    if (ssl) SSL_shutdown(ssl);
    shutdown(sock, SHUT_WR);
    char end;
    while (recv(sock, &end, 1, 0) > 0) {
    }
}

/* One piece, or less at the end. */
static size_t receive(int sock, SSL *ssl, char *piece) {
    size_t have = 0;
    while (have < PIECE) {
        ssize_t count = ssl ? SSL_read(ssl, piece + have, (int)(PIECE - have))
                            : recv(sock, piece + have, PIECE - have, MSG_WAITALL);
        if (count <= 0) break;
        have += (size_t)count;
    }
    return have;
}

static void receive_file(const char *path, int tls, char **certificate) {
    struct sockaddr_in at = receiver(0);
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1)) fail("listen");
    getsockname(listener, (struct sockaddr *)&at, &length);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    int sock = accept(listener, NULL, NULL);
    if (sock < 0) fail("accept");
    double begun = now();
    SSL *ssl = NULL;
    if (tls) {
        SSL_CTX *context = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_file(context, certificate[0], SSL_FILETYPE_PEM) != 1 ||
            SSL_CTX_use_PrivateKey_file(context, certificate[1], SSL_FILETYPE_PEM) != 1)
            fail("certificate");
        ssl = SSL_new(context);
        SSL_set_fd(ssl, sock);
        if (SSL_accept(ssl) != 1) fail("TLS");
    }
    /* Not truncated: what is there already stays in memory and is written over. */
    int file = open(path, O_WRONLY | O_CREAT, 0644);
    if (file < 0) fail(path);
    char *piece = aligned_alloc(1 << 21, 1 << 21);
    off_t written = 0;
    for (size_t size; (size = receive(sock, ssl, piece)) > 0; written += (off_t)size)
        if (pwrite(file, piece, size, written) != (ssize_t)size) fail("write");
    printf("%.6f\n", now() - begun);
    close(sock);
}

int main(int count, char **words) {
    if (count < 4) return 2;
    int tls = !strcmp(words[2], "tls");
    if (!strcmp(words[1], "send")) {
        if (count < 5) return 2;
        send_file(words[3], atoi(words[4]), tls);
    } else {
        if (tls && count < 6) return 2;
        receive_file(words[3], tls, words + 4);
    }
    return 0;
}
