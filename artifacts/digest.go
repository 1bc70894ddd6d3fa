package artifacts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest identifies content by its hash: two equal digests mean equal content. It is a comparable value and carries its algorithm.
// The zero Digest identifies nothing.
type Digest struct {
	algorithm algorithm
	sum       [sha256.Size]byte
}

// algorithm is a hash that a Digest can carry. Zero means none.
type algorithm uint8

const sha256Algorithm algorithm = 1

const sha256Prefix = "sha256:"

// Sum returns the digest of content.
func Sum(content []byte) Digest {
	return Digest{algorithm: sha256Algorithm, sum: sha256.Sum256(content)}
}

// ParseDigest reads the form that String writes: "sha256:" and 64 lowercase hexadecimal digits.
func ParseDigest(s string) (Digest, error) { return parseDigest([]byte(s)) }

func parseDigest(text []byte) (Digest, error) {
	digits, ok := bytes.CutPrefix(text, []byte(sha256Prefix))
	if !ok || len(digits) != 2*sha256.Size || bytes.ContainsAny(digits, "ABCDEF") {
		return Digest{}, digestError(string(text))
	}
	d := Digest{algorithm: sha256Algorithm}
	if _, err := hex.Decode(d.sum[:], digits); err != nil {
		return Digest{}, digestError(string(text))
	}
	return d, nil
}

func digestError(s string) error {
	return fmt.Errorf("malformed digest %.100q (want %q and %d lowercase hexadecimal digits)", s, sha256Prefix, 2*sha256.Size)
}

// String returns "sha256:" and 64 hexadecimal digits, and "" for the zero Digest.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	b := d.text()
	return string(b[:])
}

func (d Digest) text() (b [len(sha256Prefix) + 2*sha256.Size]byte) {
	hex.Encode(b[copy(b[:], sha256Prefix):], d.sum[:])
	return b
}

// IsZero says whether the digest identifies nothing.
func (d Digest) IsZero() bool { return d.algorithm == 0 }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	b := d.text()
	return b[:], nil
}

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is the zero Digest.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	parsed, err := parseDigest(text)
	if err == nil {
		*d = parsed
	}
	return err
}

// key is where a store keeps the content.
func (d Digest) key() string {
	digits := hex.EncodeToString(d.sum[:])
	return "blobs/sha256/" + digits[:2] + "/" + digits
}
