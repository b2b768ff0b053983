"""TLS by OpenSSL, without sockets: contexts from certificates, and the check of who the other side is."""
