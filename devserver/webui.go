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

// newWebUI holds the port; it serves once it is started.
func newWebUI(frontend, port int) (*webUI, error) {
	cfg, err := uiconfig.NewConfigProviderWithRefresh(&uiconfig.Config{
		TemporalGRPCAddress: hostPort(frontend),
		EnableUI:            true,
		CORS:                uiconfig.CORS{CookieInsecure: true}, // plain http on loopback
		DefaultNamespace:    namespace,
		DisableNewsFetch:    true, // would ask a server on the internet
	})
	if err != nil {
		return nil, err
	}
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return nil, err
	}
	e := echo.New()
	e.Logger.SetOutput(io.Discard) // standard output belongs to the program
	e.Pre(onlyLocal)
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
		return nil, err
	}
	if err := route.SetUIRoutes(e, "", assets, cfg); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, "/")
	l, err := net.Listen("tcp", hostPort(port))
	if err != nil {
		return nil, err
	}
	return &webUI{
		listener: l,
		server:   &http.Server{Handler: e, ErrorLog: e.StdLogger, ReadHeaderTimeout: 10 * time.Second},
	}, nil
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

func (w *webUI) start() {
	go func() { _ = w.server.Serve(w.listener) }()
}

// stop cuts all connections. A nil webUI has nothing to stop.
func (w *webUI) stop() {
	if w == nil {
		return
	}
	_ = w.server.Close()
	_ = w.listener.Close() // not the server's before it has started
}
