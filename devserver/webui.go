package devserver

import (
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"
)

// webUI is the Temporal Web UI, put together from the parts of ui-server. Its own Server ends the process when it
// cannot bind its port, and answers whoever calls it by whatever name.
type webUI struct {
	listener net.Listener
	server   *http.Server
}

// listenWebUI holds the port; whoever connects waits until it serves.
func listenWebUI(port int) (*webUI, error) {
	l, err := net.Listen("tcp", hostPort(port)) //nolint:noctx // binding to loopback does not wait
	if err != nil {
		return nil, err
	}
	return &webUI{listener: l, server: &http.Server{ReadHeaderTimeout: 10 * time.Second}}, nil
}

// serve needs a frontend that answers: otherwise the Web UI would find that out and wait before it tries again.
func (w *webUI) serve(frontend int) error {
	e := echo.New()
	e.Logger.SetOutput(io.Discard) // standard output belongs to the program
	e.Pre(onlyLocal)
	if err := setRoutes(e, frontend); err != nil {
		return err
	}
	w.server.Handler, w.server.ErrorLog = e, e.StdLogger
	go func() { _ = w.server.Serve(w.listener) }()
	return nil
}

func setRoutes(e *echo.Echo, frontend int) error {
	cfg, err := uiconfig.NewConfigProviderWithRefresh(&uiconfig.Config{
		TemporalGRPCAddress: hostPort(frontend),
		EnableUI:            true,
		CORS:                uiconfig.CORS{CookieInsecure: true}, // plain http on loopback
		DefaultNamespace:    namespace,
		DisableNewsFetch:    true, // would ask a server on the internet
	})
	if err != nil {
		return err
	}
	assets, err := ui.Assets()
	if err != nil {
		return err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return err
	}
	e.Use(
		middleware.Recover(),
		middleware.Gzip(),
		middleware.Secure(),
		csrf.EnsureTokenCookie(false),
		middleware.CSRFWithConfig(csrf.MiddlewareConfig(cfg, false)),
	)
	route.SetHealthRoute(e)
	route.SetAuthRoutes(e, cfg)
	if err := route.SetAPIRoutes(e, cfg, []api.Middleware{headers.WithForwardHeaders([]string{"Caller-Type"})}); err != nil {
		return err
	}
	if err := route.SetUIRoutes(e, "", assets, cfg); err != nil {
		return err
	}
	route.SetRenderRoute(e, "/")
	return nil
}

// onlyLocal refuses requests for other host names. A web page that makes its own name point to 127.0.0.1 is same-origin
// with the Web UI, so without this any page could start and read runs.
func onlyLocal(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		host := c.Request().Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if host != localhost && host != "localhost" {
			return echo.NewHTTPError(http.StatusForbidden, "this server answers to "+localhost+" and localhost only")
		}
		return next(c)
	}
}

// stop cuts all connections. A nil webUI has nothing to stop.
func (w *webUI) stop() {
	if w == nil {
		return
	}
	_ = w.server.Close()
	_ = w.listener.Close() // not the server's before it serves
}
