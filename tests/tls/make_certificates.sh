#!/bin/sh
# Makes the certificates of the tests with openssl, in the new directory $1:
#
#   root.pem                      the CA that clients trust; its intermediate CA issues the certificates of the server
#   NAME.pem, NAME.key            a certificate, followed by that of the intermediate CA, and its private key, for NAME in:
#     main                        localhost, 127.0.0.1 and ::1; ECDSA P-256
#     renewed                     the same names as main, with another key
#     rsa                         rsa.example.test; RSA with 2048 bits
#     wild                        *.wild.example.test; ECDSA P-256
#     expired                     expired.example.test; ECDSA P-256, expired for years
#   client-ca.pem                 the CA of the clients
#   client.pem, client.key        a certificate of a client
#   client-expired.pem, .key      a certificate of a client that has expired
#   client-other.pem, .key        a certificate of a client from another CA
set -eu

mkdir "$1"
cd "$1"

cat > ca.cnf <<'CONFIG'
[ca]
default_ca = test
[test]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = none
[none]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $ENV::NAMES
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
CONFIG
: > index.txt
export NAMES=DNS:unused

# key NAME [rsa]: makes a private key and a request for a certificate.
key() {
    if [ "${2-}" = rsa ]; then
        openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1.key"
    else
        openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
    fi
    openssl req -new -config ca.cnf -subj "/CN=$1" -key "$1.key" -out "$1.csr"
}

# root NAME: makes a CA that signs itself.
root() {
    key "$1"
    openssl ca -batch -config ca.cnf -selfsign -keyfile "$1.key" -extensions root -days 3650 -notext \
        -in "$1.csr" -out "$1.pem"
}

# issue NAME CA EXTENSIONS [START END]: issues a certificate, valid from an hour ago for 90 days.
issue() {
    start=${4:-$(date -u -d '1 hour ago' +%Y%m%d%H%M%SZ)}
    end=${5:-$(date -u -d '90 days' +%Y%m%d%H%M%SZ)}
    openssl ca -batch -config ca.cnf -cert "$2.pem" -keyfile "$2.key" -extensions "$3" \
        -startdate "$start" -enddate "$end" -notext -in "$1.csr" -out "$1.pem"
}

# leaf NAME NAMES [rsa [START END]]: makes a certificate of the server, with its chain.
leaf() {
    key "$1" "${3-}"
    NAMES=$2 issue "$1" intermediate server "${4-}" "${5-}"
    cat intermediate.pem >> "$1.pem"
}

{
    root root
    key intermediate
    issue intermediate root intermediate
    leaf main DNS:localhost,IP:127.0.0.1,IP:::1
    leaf renewed DNS:localhost,IP:127.0.0.1,IP:::1
    leaf rsa DNS:rsa.example.test rsa
    leaf wild 'DNS:*.wild.example.test'
    leaf expired DNS:expired.example.test ecdsa 20200101000000Z 20200401000000Z

    root client-ca
    root other-ca
    key client
    issue client client-ca client
    key client-expired
    issue client-expired client-ca client 20200101000000Z 20200401000000Z
    key client-other
    issue client-other other-ca client
} > openssl.log 2>&1 || { cat openssl.log >&2; exit 1; }
