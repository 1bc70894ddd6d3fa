package predict

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// The headers of the pair. Over gRPC they are metadata of the same names.
const (
	// KeyHeader carries the idempotency key, as a string of RFC 9651 (structured fields): in quotes.
	KeyHeader = "Idempotency-Key"
	// ReplayedHeader is "true" on a response that was stored before.
	ReplayedHeader = "Idempotent-Replayed"
	// RequestHeader carries the correlation id, the same for all attempts of a call.
	RequestHeader = "X-Request-ID"
)

// maxKey is the longest key in bytes.
const maxKey = 255

var (
	errNoKey  = errors.New("the header Idempotency-Key is missing (send the same key with every attempt of one operation)")
	errBadKey = fmt.Errorf("the header Idempotency-Key is not one string of 1 to %d visible ASCII characters (send it as \"…\", quotes included)", maxKey)
)

// ParseKey reads the idempotency key of a request. The key stands in quotes, as
// draft-ietf-httpapi-idempotency-key-header-07 wants it; many clients leave them out, so that a bare key is read, too.
func ParseKey(h http.Header) (string, error) {
	values := h.Values(KeyHeader)
	if len(values) == 0 {
		return "", errNoKey
	}
	if len(values) > 1 {
		return "", errBadKey
	}
	return parseKey(values[0])
}

func parseKey(value string) (string, error) {
	value = strings.Trim(value, " \t")
	key := value
	if strings.HasPrefix(value, `"`) {
		var ok bool
		if key, ok = unquote(value); !ok {
			return "", errBadKey
		}
	} else if strings.ContainsAny(value, "\",; ") { // several values, parameters, half a quote
		return "", errBadKey
	}
	if !legalKey(key) {
		return "", errBadKey
	}
	return key, nil
}

func legalKey(key string) bool {
	if key == "" || len(key) > maxKey {
		return false
	}
	for i := range len(key) {
		if key[i] < 0x20 || key[i] > 0x7e {
			return false
		}
	}
	return true
}

// unquote reads a string of RFC 9651, section 4.2.5: only quotes and backslashes are escaped.
func unquote(s string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// FormatKey writes a key as the header's value.
func FormatKey(key string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
}

// Key is the idempotency key of an operation: that of the running task (see flow.IdempotencyKey) and the operation's own, so
// that it stays the same over attempts, resumes and workers. Within a task, operation must be unique to what is asked for; ""
// stands for the only one. Outside of a run, operation alone is the key and must be given.
func Key(ctx context.Context, operation string) (string, error) {
	key := operation
	if task := flow.IdempotencyKey(ctx); task != "" {
		key = task
		if operation != "" {
			key += "." + operation
		}
	}
	if key == "" {
		return "", policies.WithClass(errors.New("a call outside of a run has no idempotency key (give it one)"), policies.Permanent)
	}
	if !legalKey(key) {
		key = key[:min(len(key), 33)] // the task's part, if there is one
		if flow.IdempotencyKey(ctx) == "" {
			key = ""
		}
		sum := sha256.Sum256([]byte(operation))
		key += hex.EncodeToString(sum[:])
	}
	return key, nil
}
