package serve

import (
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/activities/predict"
)

// Faults make a server fail in the ways that servers do. The zero value does nothing.
type Faults struct {
	// Transient is the share of requests, from 0 to 1, that fail and would not the next time. In a third of them the server refuses,
	// in a third the model fails, and in a third it answers and the answer is lost on the way.
	Transient float64
	// Limited is the share of requests that are told to come back after RetryAfter, which is a second or more.
	Limited    float64
	RetryAfter time.Duration
	// Permanent is the share of keys that the model refuses, always.
	Permanent float64
	// Latency is how long each answer takes.
	Latency time.Duration
	// For OutageFor, beginning OutageAfter the start, all requests fail.
	OutageAfter, OutageFor time.Duration
	// Seed makes the faults the same with each start.
	Seed uint64
}

// Flags makes the faults settings of a program.
func (f *Faults) Flags(set *flag.FlagSet) {
	set.Float64Var(&f.Transient, "transient", 0, "share of requests that fail once: refused, failed or answered and lost")
	set.Float64Var(&f.Limited, "limited", 0, "share of requests that get 429 with Retry-After")
	set.DurationVar(&f.RetryAfter, "retry-after", time.Second, "the wait that a 429 asks for, in whole seconds")
	set.Float64Var(&f.Permanent, "permanent", 0, "share of keys that the model refuses, always")
	set.DurationVar(&f.Latency, "latency", 0, "how long each answer takes")
	set.DurationVar(&f.OutageAfter, "outage-after", 0, "when an outage begins, after the start")
	set.DurationVar(&f.OutageFor, "outage-for", 0, "how long it takes")
	set.Uint64Var(&f.Seed, "seed", 1, "seed of the faults")
}

// Wrap puts faults around a model: around it and its guard together, and between the two.
func (f Faults) Wrap(guard func(http.Handler) http.Handler, model http.Handler) http.Handler {
	started := time.Now()
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(f.Seed, 0))
	draw := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64()
	}
	inner := guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch key, _ := predict.ParseKey(r.Header); {
		case share(key) < f.Permanent:
			problem(w, http.StatusUnprocessableEntity, "the model cannot judge this flight")
		case r.Header.Get(failHere) != "":
			problem(w, http.StatusInternalServerError, "the model failed")
		default:
			model.ServeHTTP(w, r)
		}
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del(failHere)
		if f.Latency > 0 {
			time.Sleep(f.Latency)
		}
		if since := time.Since(started); since >= f.OutageAfter && since < f.OutageAfter+f.OutageFor {
			problem(w, http.StatusServiceUnavailable, "the server is out of order")
			return
		}
		switch x := draw(); {
		case x < f.Transient/3:
			problem(w, http.StatusServiceUnavailable, "the server is busy")
		case x < f.Transient*2/3:
			r.Header.Set(failHere, "1")
			inner.ServeHTTP(w, r)
		case x < f.Transient:
			inner.ServeHTTP(nowhere{}, r)
			panic(http.ErrAbortHandler) // the connection breaks
		case x < f.Transient+f.Limited:
			w.Header().Set("Retry-After", strconv.Itoa(max(int(f.RetryAfter/time.Second), 1)))
			problem(w, http.StatusTooManyRequests, "there are too many requests")
		default:
			inner.ServeHTTP(w, r)
		}
	})
}

// nowhere is where a lost answer goes.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) WriteHeader(int)             {}
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

// failHere tells the inner half of the faults what the outer half has drawn.
const failHere = "X-Fail-Here"

// share spreads keys evenly over [0,1).
func share(key string) float64 {
	sum := sha256.Sum256([]byte(key))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// Counter counts how often a handler ran for each key.
type Counter struct {
	mu   sync.Mutex
	keys map[string]int
}

// Wrap counts the calls of a handler.
func (c *Counter) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := predict.ParseKey(r.Header)
		c.mu.Lock()
		if c.keys == nil {
			c.keys = map[string]int{}
		}
		c.keys[key]++
		c.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// Stats is what was counted: how many keys, how often for all of them, and how often for the one with most.
func (c *Counter) Stats() (keys, calls, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.keys {
		calls += n
		most = max(most, n)
	}
	return len(c.keys), calls, most
}
