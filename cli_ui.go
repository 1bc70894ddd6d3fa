package stepwell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/ui"
)

// defaultUI is where the pages are unless --listen says otherwise, so that other programs can link to them.
const defaultUI = "127.0.0.1:8283"

func (c *command) uiCmd() *cobra.Command {
	var (
		listen, webUI string
		hosts         []string
	)
	cmd := &cobra.Command{
		Use: "ui", Short: "Show flows, runs and tasks in a browser, until interrupted",
		Long: `Show the flows of the store, their runs and all that belongs to them in a browser, until interrupted.

The pages of running runs keep themselves current. They can be opened from this machine only,
unless --listen names another address; nobody who can reach that is asked for a password.`,
		Example: c.examples(
			"ui                               pages at http://"+defaultUI,
			"ui --listen 127.0.0.1:0          at a free port",
			"ui --store s3://bucket/prefix    of another store"),
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			webUI, err := c.webUIAddress(webUI)
			if err != nil {
				return err
			}
			source, done, err := c.uiSource(cmd.Context(), webUI)
			if err != nil {
				return err
			}
			defer done()
			return c.serveUI(cmd.Context(), listen, hosts, source)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", defaultUI, "the address to listen at, host:port; port 0 takes a free one")
	f.StringArrayVar(&hosts, "host", nil, "another name or address that browsers reach the pages by (may be given several times)")
	f.StringVar(&webUI, "web-ui", "", "address of the Temporal Web UI to link to (default STEPWELL_WEB_UI, else that of the embedded server)")
	return cmd
}

func (c *command) serveUI(ctx context.Context, listen string, hosts []string, source ui.Source) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return inputf("--listen %q is not host:port (write it like %s)", listen, defaultUI)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return &unusableError{fmt.Errorf("listen at %s: %w (choose another port with --listen, 127.0.0.1:0 for a free one)", listen, err)}
	}
	if addr, err := netip.ParseAddrPort(l.Addr().String()); err == nil && !addr.Addr().Unmap().IsLoopback() {
		fmt.Fprintf(c.io.Err, "warning: who can reach %s can read everything in the store\n", l.Addr())
		if !addr.Addr().IsUnspecified() {
			hosts = append(hosts, host, addr.Addr().Unmap().String())
		}
	}
	reader, _, err := source(ctx)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s := &http.Server{
		Handler:           ui.Handler(source, ui.Options{Hosts: hosts}),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(c.logger().Handler(), slog.LevelWarn),
	}
	fmt.Fprintf(c.io.Out, "pages at http://%s/ of store %s\n", l.Addr(), reader.Store())
	ended := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(patience) != nil {
			_ = s.Close() // somebody downloads still
		}
	})
	defer ended()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return &unusableError{err}
	}
	return nil
}

// uiSource finds the Temporal server that runs now. The embedded one comes and goes with the programs that run flows.
func (c *command) uiSource(ctx context.Context, webUI string) (_ ui.Source, done func(), _ error) {
	_, configured, err := c.temporalOptions()
	if err != nil {
		return nil, nil, err
	}
	if configured || c.app.Dev == nil {
		reader, done, err := c.reader(ctx)
		return ui.Fixed(reader, webUI), done, err
	}
	store, err := c.openStore(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	type view struct {
		reader *runs.Reader
		webUI  string
	}
	var now atomic.Pointer[view]
	now.Store(&view{runs.New(store, nil), webUI})
	var (
		server DevServer
		used   client.Client
	)
	// change goes on to another server, or to none. The client before may be in use: it is closed a little later.
	change := func(next DevServer) {
		server = next
		if used != nil {
			time.AfterFunc(10*time.Second, used.Close)
			used = nil
		}
		v := &view{runs.New(store, nil), webUI}
		if o, _, err := c.temporalOptions(); next.Address != "" && err == nil {
			o.HostPort, o.Namespace = next.Address, next.Namespace
			if used, err = client.NewLazyClient(uncompressed(o)); err == nil {
				v.reader = runs.New(store, used)
			}
			if v.webUI == "" {
				v.webUI = next.WebUI
			}
		}
		now.Store(v)
	}
	look := func(ctx context.Context) {
		var next DevServer
		if found, err := c.app.Dev(ctx, DevOptions{Dir: c.set.stateDir, Existing: true, Logger: c.logger()}); err == nil {
			next = DevServer{Address: found.Address, WebUI: found.WebUI, Namespace: found.Namespace}
			found.Stop()
		}
		if next.Address != server.Address || next.WebUI != server.WebUI {
			change(next)
		}
	}
	look(ctx)
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		every := time.NewTicker(lookForServer)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
				look(ctx)
			}
		}
	}()
	done = func() {
		stop()
		<-ended
		if used != nil {
			used.Close()
		}
	}
	return func(context.Context) (*runs.Reader, string, error) {
		v := now.Load()
		return v.reader, strings.TrimSuffix(v.webUI, "/"), nil
	}, done, nil
}

// lookForServer is how often the pages look whether the embedded server runs.
const lookForServer = 2 * time.Second
