#!/bin/sh
# Makes the tokens of this folder with `openssl ts` and a throwaway authority whose keys are not kept. Run it
# where request.tsq lies; only if the request changed, as other keys make other tokens.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > cnf <<'C'
[ca]
default_ca = d
[d]
database = index
new_certs_dir = .
serial = serial
default_md = sha256
policy = p
unique_subject = no
[p]
commonName = supplied
[req]
distinguished_name = dn
prompt = no
[dn]
CN = x
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
[tsa]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[web]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,serverAuth,timeStamping
[none]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
[t]
serial = tsserial
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
accuracy = secs:1, millisecs:500
tsa_name = yes
[t384]
serial = tsserial
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha384
accuracy = secs:1
ess_cert_id_alg = sha256
[strict]
serial = tsserial
default_policy = 1.2.3.4.1
digests = sha512
signer_digest = sha256
C
: > index
echo 1000 > serial
echo 01 > tsserial
key() {
    case $2 in
        rsa) openssl genrsa -out "$1.key" 2048 ;;
        *) openssl ecparam -name "$2" -genkey -noout -out "$1.key" ;;
    esac
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr" -config cnf
}
root() {
    key "$1" "$2"
    openssl ca -batch -config cnf -selfsign -keyfile "$1.key" -in "$1.csr" -extensions root \
        -startdate 20200101000000Z -enddate 20600101000000Z -out "$1.pem" -notext
}
# name, kind of key, issuer, extensions, last day
leaf() {
    key "$1" "$2"
    openssl ca -batch -config cnf -keyfile "$3.key" -cert "$3.pem" -in "$1.csr" -extensions "$4" \
        -startdate 20200101000000Z -enddate "$5" -out "$1.pem" -notext
}
reply() {
    name=$1 signer=$2
    shift 2
    openssl ts -reply -config cnf -queryfile "$here/request.tsq" -signer "$signer.pem" -inkey "$signer.key" \
        -out "$here/$name.tsr" "$@"
}
# The TSTInfo of a good token under a certificate that `openssl ts` would not sign with.
forge() {
    openssl cms -sign -binary -nodetach -cades -md sha256 -econtent_type 1.2.840.113549.1.9.16.1.4 -in info \
        -signer "$2.pem" -inkey "$2.key" -outform DER -out token
    python3 - token "$here/$1.tsr" <<'P'
import sys
token = b"\x30\x03\x02\x01\x00" + open(sys.argv[1], "rb").read()
open(sys.argv[2], "wb").write(b"\x30\x82" + len(token).to_bytes(2, "big") + token)
P
}
root root-rsa rsa
root root-p256 prime256v1
leaf tsa-rsa rsa root-rsa tsa 20590101000000Z
leaf tsa-p256 prime256v1 root-p256 tsa 20590101000000Z
leaf tsa-p384 secp384r1 root-p256 tsa 20590101000000Z
leaf tsa-expired prime256v1 root-p256 tsa 20210101000000Z
leaf tsa-web prime256v1 root-p256 web 20590101000000Z
leaf tsa-none prime256v1 root-p256 none 20590101000000Z
leaf inter prime256v1 root-p256 root 20590101000000Z
leaf tsa-inter prime256v1 inter tsa 20590101000000Z
reply rsa tsa-rsa -section t
reply p256 tsa-p256 -section t
reply p384 tsa-p384 -section t
reply sha384 tsa-rsa -section t384
reply intermediate tsa-inter -section t -chain inter.pem
reply expired tsa-expired -section t
reply refused tsa-p256 -section strict
openssl ts -reply -in "$here/p256.tsr" -token_out -out good
openssl cms -verify -noverify -inform DER -in good -out info -binary
forge other-usage tsa-web
forge no-usage tsa-none
cp root-rsa.pem root-p256.pem "$here"
