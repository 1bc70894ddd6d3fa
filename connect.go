package stepwell

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/runs"
)

const defaultStateDir = ".stepwell"

// settings are the flags that every verb has.
type settings struct {
	store, address, namespace, profile, stateDir, logLevel string
	metrics                                                string
	logFormat                                              logFormat
	json                                                   bool
	// web is the Temporal Web UI of the server that a reading verb asks, if its address is known.
	web struct{ address, namespace string }
}

// storeLocation is where artifacts are: the flag, else STEPWELL_STORE, else a folder of the state directory.
func (c *command) storeLocation() string {
	if c.set.store != "" {
		return c.set.store
	}
	if s, ok := c.io.Env("STEPWELL_STORE"); ok && s != "" {
		return s
	}
	return filepath.Join(c.set.stateDir, "store")
}

// patience is how long programs that run steps wait for a store that is away.
const patience = 5 * time.Minute

// openStore opens the store. A program that will write checks it first, so that a mistake is told before
// anything starts.
func (c *command) openStore(ctx context.Context, write bool) (*artifacts.Store, error) {
	o := artifacts.Options{Observe: c.observing.store}
	if write {
		o.Patience = patience
	}
	s, err := artifacts.Open(ctx, c.storeLocation(), o)
	if err != nil {
		return nil, &unusableError{err}
	}
	if write {
		if err := s.Check(ctx); err != nil {
			return nil, &unusableError{err}
		}
	}
	return s, nil
}

// temporalOptions reads Temporal's own profile and environment; the flags come first. configured is false
// when none of them names a server.
func (c *command) temporalOptions() (o client.Options, configured bool, err error) {
	o, err = envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{
		ConfigFileProfile: c.set.profile, EnvLookup: envLookup{c.io.Env},
	})
	if err != nil {
		return o, false, inputf("read Temporal's settings: %w", err)
	}
	if c.set.address != "" {
		o.HostPort = c.set.address
	}
	if c.set.namespace != "" {
		o.Namespace = c.set.namespace
	}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	o.Logger = log.NewStructuredLogger(c.logger())
	o.Identity = workerIdentity()
	return o, o.HostPort != "", nil
}

type envLookup struct {
	lookup func(string) (string, bool)
}

func (e envLookup) LookupEnv(name string) (string, bool) { return e.lookup(name) }

// Environ is used for gRPC headers from the environment, which tests leave out.
func (e envLookup) Environ() []string { return envconfig.EnvLookupOS.Environ() }

// logger is for Temporal's libraries. Unless the user chose a level, it leaves out what says nothing new.
func (c *command) logger() *slog.Logger {
	level := slog.LevelWarn
	if c.set.logLevel != "" {
		_ = level.UnmarshalText([]byte(c.set.logLevel)) // checked when the flags were read
	}
	var h slog.Handler = slog.NewTextHandler(c.io.Err, &slog.HandlerOptions{Level: level})
	if c.set.logFormat == logJSON {
		h = slog.NewJSONHandler(c.io.Err, &slog.HandlerOptions{Level: level})
	}
	return slog.New(&libraryHandler{Handler: h, routine: c.set.logLevel != "", ending: &c.ending})
}

// session is a store and a Temporal server, for verbs that run or change something.
type session struct {
	store     *artifacts.Store
	temporal  client.Client
	client    *Client
	dev       *DevServer // nil with a configured server
	namespace string
	webUI     string
	observing *observing
	ending    *atomic.Bool
}

// connect opens the store and the server, in that order: the store is checked before anything starts.
// Without a configured server it starts the embedded one.
func (c *command) connect(ctx context.Context, taskQueue string) (*session, error) {
	o, configured, err := c.temporalOptions()
	if err != nil {
		return nil, err
	}
	if !configured && c.app.Dev == nil {
		return nil, inputf("no Temporal server is configured (set --address or TEMPORAL_ADDRESS; this program has none built in)")
	}
	pages, err := c.pageAddress("STEPWELL_UI", "")
	if err != nil {
		return nil, err
	}
	if err := c.observe(ctx); err != nil {
		return nil, err
	}
	s := &session{namespace: o.Namespace, ending: &c.ending, observing: &c.observing}
	if s.store, err = c.openStore(ctx, true); err != nil {
		s.close()
		return nil, err
	}
	heartbeat, slots := time.Duration(0), 0
	if !configured {
		calmServer()
		s.dev, err = c.app.Dev(ctx, DevOptions{Dir: c.set.stateDir, Logger: c.logger()})
		if err != nil {
			s.close()
			return nil, &unusableError{fmt.Errorf("start the embedded Temporal server: %w", err)}
		}
		o.HostPort, o.Namespace, s.namespace, s.webUI = s.dev.Address, s.dev.Namespace, s.dev.Namespace, s.dev.WebUI
		// The process that is restarted after a kill is often the only worker: it should not wait long for itself.
		heartbeat, slots = 5*time.Second, DefaultSlots()
		if pages == "" {
			pages = "http://" + defaultUI
		}
	}
	s.observing.client(&o)
	if s.temporal, err = dial(ctx, o); err != nil {
		s.close()
		return nil, err
	}
	s.client = NewClient(s.temporal, s.store, ClientOptions{TaskQueue: taskQueue, Namespace: s.namespace, Heartbeat: heartbeat, Slots: slots, UI: pages})
	return s, nil
}

// uncompressed leaves compression out on the way to a server on the same machine: it would be work for nothing.
func uncompressed(o client.Options) client.Options {
	if host, _, err := net.SplitHostPort(o.HostPort); err == nil {
		if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
			o.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
		}
	}
	return o
}

func dial(ctx context.Context, o client.Options) (client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.DialContext(ctx, uncompressed(o))
	if err != nil {
		return nil, &unusableError{fmt.Errorf("connect to Temporal at %s, namespace %q: %w", o.HostPort, o.Namespace, err)}
	}
	return c, nil
}

func (s *session) close() {
	s.ending.Store(true)
	if s.temporal != nil {
		s.temporal.Close()
	}
	if s.dev != nil {
		s.dev.Stop()
	}
	s.observing.end()
}

// reader opens the store for reading, and Temporal if it can be had without starting anything. A run that
// has ended is in the store whole, so reading works without a server. done closes it.
func (c *command) reader(ctx context.Context) (_ *runs.Reader, done func(), _ error) {
	store, err := c.openStore(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	o, configured, err := c.temporalOptions()
	if err != nil {
		return nil, nil, err
	}
	done = func() {}
	c.set.web.address, _ = c.webUIAddress("") // what cannot be linked to is not
	if !configured && c.app.Dev != nil {
		dev, err := c.app.Dev(ctx, DevOptions{Dir: c.set.stateDir, Existing: true, Logger: c.logger()})
		if err != nil {
			return runs.New(store, nil), done, nil //nolint:nilerr // no process runs the server: nothing is running
		}
		o.HostPort, o.Namespace, configured = dev.Address, dev.Namespace, true
		c.set.web.address = cmp.Or(c.set.web.address, dev.WebUI)
		done = dev.Stop
	}
	if !configured {
		return runs.New(store, nil), done, nil
	}
	c.set.web.namespace = o.Namespace
	t, err := client.NewLazyClient(uncompressed(o))
	if err != nil {
		done()
		return nil, nil, inputf("use Temporal at %s: %w", o.HostPort, err)
	}
	stop := done
	return runs.New(store, t), func() { t.Close(); stop() }, nil
}
