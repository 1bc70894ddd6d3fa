package predict

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// A key's documents lie below idempotency/<xx>/<digest of scope and key>/:
//
//	claim-000001.json   who executes, until when; a claim that ran out or was given back is followed by the next number
//	response.json       the response; once it is there, the key is finished
//
// Both kinds are created by conditional puts alone, and nothing is ever deleted. So a number belongs to one execution, and the
// first execution that stores its response is the only one that ever does, whoever else still believes to hold the key.
const prefix = "idempotency/"

// Claim is the right to execute the operation of a key. Handlers find it with [ClaimOf].
type Claim struct {
	// Key is the idempotency key.
	Key string
	// Number counts the claims of the key from 1. It is above 1 if an earlier execution crashed, failed or took too long. A service
	// that refuses numbers below the highest it has seen shuts out an execution that was given up and is still running.
	Number int
	// Until is when the handler's context ends.
	Until time.Time
}

type claimKey struct{}

// ClaimOf is the claim under which a handler runs. There is none outside of [Middleware] and [Interceptor].
func ClaimOf(ctx context.Context) (Claim, bool) {
	c, ok := ctx.Value(claimKey{}).(Claim)
	return c, ok
}

// keeper keeps what became of keys. It is safe for concurrent use.
type keeper struct {
	store *artifacts.Store
	lease time.Duration
	now   func() time.Time
}

// claimed is the document of a claim. Only its holder replaces it, to give it back.
type claimed struct {
	Fingerprint string    `json:"fingerprint"`
	Holder      string    `json:"holder"`
	Taken       time.Time `json:"taken"`
	// Until is when others may take the key.
	Until time.Time `json:"until"`
	Ended bool      `json:"ended,omitempty"`
}

// stored is the document of a response.
type stored struct {
	Fingerprint string      `json:"fingerprint"`
	Holder      string      `json:"holder"`
	Claim       int         `json:"claim"`
	Stored      time.Time   `json:"stored"`
	Status      int         `json:"status"`
	Header      http.Header `json:"header,omitempty"`
	Body        []byte      `json:"body,omitempty"`
}

// hold is a claim of this process.
type hold struct {
	k      *keeper
	dir    string
	number int
	doc    claimed
}

var errReused = errors.New("the key was used with another request before (make a new key for a new operation)")

// inFlightError says that the operation of a key is being executed.
type inFlightError struct {
	wait time.Duration
}

func (e *inFlightError) Error() string {
	return "a request with the same key is being executed (send it again after the wait in Retry-After)"
}

func (k *keeper) dir(scope, key string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\x00%s%s", len(scope), scope, key))
	name := hex.EncodeToString(sum[:])
	return prefix + name[:2] + "/" + name + "/"
}

func claimPath(dir string, number int) string { return fmt.Sprintf("%sclaim-%06d.json", dir, number) }

// take claims a key. It returns a hold if the caller is to execute, or the stored response; otherwise the error is errReused, an
// *inFlightError, or the store's.
func (k *keeper) take(ctx context.Context, scope, key, fingerprint string) (*hold, *stored, error) {
	h := &hold{k: k, dir: k.dir(scope, key), number: 1}
	err := h.create(ctx, fingerprint)
	if err == nil {
		return h, nil, nil // nobody had it before, so there is no response either
	}
	for errors.Is(err, artifacts.ErrExists) {
		done, err := k.response(ctx, h.dir, fingerprint)
		if done != nil || err != nil {
			return nil, done, err
		}
		last, doc, err := k.last(ctx, h.dir)
		if err != nil {
			return nil, nil, err
		}
		if last > 0 && doc.Fingerprint != fingerprint {
			return nil, nil, errReused
		}
		if now := k.now(); !doc.Ended && now.Before(doc.Until) {
			// The longer it takes, the less often others ask; a crashed holder is noticed when its claim runs out.
			age, left := now.Sub(doc.Taken), doc.Until.Sub(now)
			return nil, nil, &inFlightError{min(max(age, time.Second), left+time.Second)}
		}
		h.number = last + 1
		if err = h.create(ctx, fingerprint); err == nil {
			// The former holder may have stored its response after we looked.
			if done, err := k.response(ctx, h.dir, fingerprint); done != nil || err != nil {
				return nil, done, err
			}
			return h, nil, nil
		}
		if !errors.Is(err, artifacts.ErrExists) {
			return nil, nil, err
		}
	}
	return nil, nil, err
}

// create makes the hold's claim, or returns ErrExists.
func (h *hold) create(ctx context.Context, fingerprint string) error {
	now := h.k.now()
	h.doc = claimed{
		Fingerprint: fingerprint, Holder: rand.Text(), Taken: now,
		// The handler's context ends after the lease; a quarter more is what clocks may differ.
		Until: now.Add(h.k.lease + h.k.lease/4),
	}
	return h.k.create(ctx, claimPath(h.dir, h.number), h.doc)
}

func (k *keeper) create(ctx context.Context, path string, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return k.store.CreateDoc(ctx, path, b)
}

func (h *hold) claim(key string) Claim {
	return Claim{Key: key, Number: h.number, Until: h.doc.Taken.Add(h.k.lease)}
}

// commit stores the response. If another execution of the key was first, it returns the response of that one.
func (h *hold) commit(ctx context.Context, r stored) (first *stored, err error) {
	r.Fingerprint, r.Holder, r.Claim, r.Stored = h.doc.Fingerprint, h.doc.Holder, h.number, h.k.now()
	err = h.k.create(ctx, h.dir+"response.json", r)
	if errors.Is(err, artifacts.ErrExists) {
		return h.k.response(ctx, h.dir, h.doc.Fingerprint)
	}
	return nil, err
}

// release gives the key back: the next request executes.
func (h *hold) release(ctx context.Context) error {
	h.doc.Ended = true
	b, err := json.Marshal(h.doc)
	if err != nil {
		return err
	}
	return h.k.store.PutDoc(ctx, claimPath(h.dir, h.number), b)
}

// response reads the stored response, nil if there is none.
func (k *keeper) response(ctx context.Context, dir, fingerprint string) (*stored, error) {
	b, err := k.store.GetDoc(ctx, dir+"response.json")
	if errors.Is(err, artifacts.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r stored
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("response of %q: %w", dir, err)
	}
	if r.Fingerprint != fingerprint {
		return nil, errReused
	}
	return &r, nil
}

// last reads the claim with the highest number. The number is 0 if somebody has deleted them all.
func (k *keeper) last(ctx context.Context, dir string) (number int, doc claimed, err error) {
	for info, err := range k.store.List(ctx, dir+"claim-") {
		if err != nil {
			return 0, doc, err
		}
		if _, err := fmt.Sscanf(info.Key[len(dir):], "claim-%d.json", &number); err != nil {
			return 0, doc, fmt.Errorf("claim %q: %w", info.Key, err)
		}
	}
	if number == 0 {
		return 0, doc, nil
	}
	b, err := k.store.GetDoc(ctx, claimPath(dir, number))
	if err != nil {
		return 0, doc, err
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return 0, doc, fmt.Errorf("claim %q: %w", claimPath(dir, number), err)
	}
	return number, doc, nil
}
