package devserver

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
)

// startWebUI serves the Temporal Web UI for the frontend. The port MUST be free: the UI server ends the process when
// it cannot bind.
func startWebUI(ctx context.Context, frontend, port int) (*uiserver.Server, error) {
	if l, err := net.Listen("tcp", hostPort(port)); err != nil {
		return nil, fmt.Errorf("port %d: %w (%w)", port, errPort, err)
	} else {
		_ = l.Close()
	}
	ui := uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		TemporalGRPCAddress: hostPort(frontend),
		Host:                localhost,
		Port:                port,
		EnableUI:            true,
		CORS:                uiconfig.CORS{CookieInsecure: true}, // plain http on loopback
		DefaultNamespace:    namespace,
		DisableNewsFetch:    true, // would ask a server on the internet
		HideLogs:            true,
	}))
	go func() { _ = ui.Start() }()

	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", hostPort(port))
		if err == nil {
			_ = conn.Close()
			return ui, nil
		}
		select {
		case <-ctx.Done():
			ui.Stop()
			return nil, fmt.Errorf("web UI on port %s: %w", strconv.Itoa(port), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}
