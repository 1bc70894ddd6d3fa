package predict

import (
	"context"
	"errors"
)

// Transport carries calls to a model server: [HTTP] or [GRPC]. It is safe for concurrent use.
type Transport interface {
	// target is what is called, for people, without secrets.
	target() string
	// identity tells targets apart. It may hold secrets.
	identity() string
	// encode makes the payload that all attempts of a call send.
	encode(req any) (payload, error)
	// send makes one attempt and decodes the answer into resp, a pointer to the caller's response type.
	send(ctx context.Context, p payload, h heading, resp any) (answer, error)
	// keep is an answer in bytes, resp what it was decoded into. Restore decodes them anew, to an equal response.
	keep(a answer, resp any) ([]byte, error)
	restore(b []byte, resp any) error
}

// payload is an encoded request. Equal requests have equal bytes.
type payload struct {
	bytes   []byte
	message any // what gRPC sends
}

// heading is what travels beside the payload.
type heading struct {
	key     string
	request string // correlation id
}

// executingError is the answer of the pair while a key is being executed. Where that is the work of a server or a worker that has
// crashed, it is so until the claim runs out: it is a wait, and no attempt of a call.
type executingError struct{ error }

func (e *executingError) Unwrap() error { return e.error }

func executing(err error) bool {
	_, ok := errors.AsType[*executingError](err)
	return ok
}

// answer is what is known of an attempt besides its result.
type answer struct {
	status   string // "200", "Unavailable", "" if there was none
	replayed bool
	body     []byte // of a success over HTTP, for an item of a chunk its part
}
