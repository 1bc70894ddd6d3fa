package devserver

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	clusterName = "stepwell"

	// historyShards is fixed when a database is made. Writes of one shard are serialised: with one shard, a fan-out
	// of child workflows is no faster than one run.
	historyShards = 4
)

// startServer runs a Temporal server on the database. It returns once a client can start a workflow. When one of the
// ports is lost to another program meanwhile, those that the server had bound before stay bound: it has no way to close
// them.
func startServer(ctx context.Context, db *database, p ports, log logger) (_ temporal.Server, err error) {
	var server temporal.Server
	defer func() {
		if err != nil {
			log.silence()
			if server != nil {
				stopServer(server)
			}
		}
	}()
	done := make(chan error, 1)
	go func() {
		// Deferred, because a fatal error of the server ends this goroutine (see logger.Fatal).
		err := errors.New("the server ended while it started")
		defer func() {
			p, fatal := recover(), log.state.getFatal()
			if p != nil && fatal == nil {
				panic(p)
			}
			if err != nil && fatal != nil {
				err = fatal
			}
			done <- err
		}()
		log.state.building.Store(true)
		made, failed := newServer(db, p, log)
		log.state.building.Store(false)
		if failed == nil {
			server = made
			failed = server.Start()
		}
		err = failed
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("start the Temporal server: %w", err)
	}
	if err := waitReady(ctx, hostPort(p.frontend)); err != nil {
		return nil, fmt.Errorf("wait for the Temporal server: %w", err)
	}
	return server, nil
}

// nameBinary gives the SDK a cheap identity of this program. Without one, the first worker of the process, which is the
// server's own, reads and hashes the whole executable.
var nameBinary = sync.OnceFunc(func() {
	path, err := os.Executable()
	if err != nil {
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		return
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano())
	worker.SetBinaryChecksum(fmt.Sprintf("%016x", h.Sum64()))
})

func newServer(db *database, p ports, log logger) (temporal.Server, error) {
	nameBinary()
	return temporal.NewServer(
		temporal.WithConfig(serverConfig(db, p)),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(map[primitives.ServiceName]static.Hosts{
			primitives.FrontendService: static.SingleLocalHost(hostPort(p.frontend)),
			primitives.HistoryService:  static.SingleLocalHost(hostPort(p.history)),
			primitives.MatchingService: static.SingleLocalHost(hostPort(p.matching)),
			primitives.WorkerService:   static.SingleLocalHost(hostPort(p.worker)),
		}),
		temporal.WithLogger(log),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper {
			return authorization.NewNoopClaimMapper()
		}),
		temporal.WithDynamicConfigClient(dynamicConfig()),
	)
}

// stopPatience is how long a stop waits for the server. Whatever it still does is safe in the database.
const stopPatience = 3 * time.Second

// stopServer says whether the server has ended in time.
func stopServer(server temporal.Server) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Stop()
	}()
	select {
	case <-done:
		return true
	case <-time.After(stopPatience):
		return false
	}
}

// waitReady returns when the frontend answers for the namespace.
func waitReady(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	service := workflowservice.NewWorkflowServiceClient(conn)
	for {
		_, err = service.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func serverConfig(db *database, p ports) *config.Config {
	service := func(port int) config.Service {
		return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: localhost}}
	}
	return &config.Config{
		Global: config.Global{
			Membership: config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: localhost},
		},
		Persistence: config.Persistence{
			DefaultStore:     storeName,
			VisibilityStore:  storeName,
			NumHistoryShards: historyShards,
			DataStores:       map[string]config.DataStore{storeName: {SQL: db.config()}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {
					Enabled:                true,
					InitialFailoverVersion: 1,
					RPCAddress:             hostPort(p.frontend),
					ClusterID:              db.clusterID,
				},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services: map[string]config.Service{
			string(primitives.FrontendService): service(p.frontend),
			string(primitives.HistoryService):  service(p.history),
			string(primitives.MatchingService): service(p.matching),
			string(primitives.WorkerService):   service(p.worker),
		},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{
			Archival: config.ArchivalNamespaceDefaults{
				History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
				Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			},
		},
		PublicClient: config.PublicClient{HostPort: hostPort(p.frontend)},
	}
}
