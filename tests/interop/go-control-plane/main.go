// An xDS control plane on go-control-plane's snapshot cache, for tests: state of the world and Delta over ADS.
//
// Reads snapshots from stdin, one JSON object a line: {"version": "1", "resources": {TYPE_URL: [base64, ...]}}. Writes
// events to stdout, one JSON object a line: the address, then every request that answers a response.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// Every node gets the same snapshot.
type everyone struct{}

func (everyone) ID(*core.Node) string { return "everyone" }

type snapshotLine struct {
	Version   string              `json:"version"`
	Resources map[string][][]byte `json:"resources"`
}

type event struct {
	Event   string   `json:"event"`
	Address string   `json:"address,omitempty"`
	Type    string   `json:"type,omitempty"`
	Version string   `json:"version,omitempty"`
	Nonce   string   `json:"nonce,omitempty"`
	Error   string   `json:"error,omitempty"`
	Names   []string `json:"names,omitempty"`
	Node    string   `json:"node,omitempty"`
}

var output sync.Mutex

func tell(one event) {
	line, err := json.Marshal(one)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

func callbacks() server.Callbacks {
	return server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, request *discovery.DiscoveryRequest) error {
			tell(event{
				Event:   "request",
				Type:    request.GetTypeUrl(),
				Version: request.GetVersionInfo(),
				Nonce:   request.GetResponseNonce(),
				Error:   request.GetErrorDetail().GetMessage(),
				Names:   request.GetResourceNames(),
				Node:    request.GetNode().GetId(),
			})
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, request *discovery.DeltaDiscoveryRequest) error {
			tell(event{
				Event: "delta_request",
				Type:  request.GetTypeUrl(),
				Nonce: request.GetResponseNonce(),
				Error: request.GetErrorDetail().GetMessage(),
				Names: request.GetResourceNamesSubscribe(),
				Node:  request.GetNode().GetId(),
			})
			return nil
		},
		StreamResponseFunc: func(_ context.Context, _ int64, _ *discovery.DiscoveryRequest, response *discovery.DiscoveryResponse) {
			tell(event{Event: "response", Type: response.GetTypeUrl(), Version: response.GetVersionInfo(), Nonce: response.GetNonce()})
		},
		StreamDeltaResponseFunc: func(_ int64, _ *discovery.DeltaDiscoveryRequest, response *discovery.DeltaDiscoveryResponse) {
			tell(event{
				Event:   "delta_response",
				Type:    response.GetTypeUrl(),
				Version: response.GetSystemVersionInfo(),
				Nonce:   response.GetNonce(),
				Names:   response.GetRemovedResources(),
			})
		},
	}
}

func snapshotOf(line snapshotLine) (*cache.Snapshot, error) {
	found := map[resource.Type][]types.Resource{}
	for url, payloads := range line.Resources {
		for _, payload := range payloads {
			message, err := (&anypb.Any{TypeUrl: url, Value: payload}).UnmarshalNew()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", url, err)
			}
			found[url] = append(found[url], message.(proto.Message))
		}
	}
	return cache.NewSnapshot(line.Version, found)
}

func run() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	snapshots := cache.NewSnapshotCache(true, everyone{}, nil)
	// The policy that a control plane of production has: pings more often than this are a GOAWAY.
	enforcement := grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 15 * time.Second})
	grpcServer := grpc.NewServer(enforcement, grpc.MaxConcurrentStreams(1000))
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, server.NewServer(context.Background(), snapshots, callbacks()))
	go func() { _ = grpcServer.Serve(listener) }()
	tell(event{Event: "listening", Address: listener.Addr().String()})

	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			grpcServer.Stop()
			return nil
		}
		var line snapshotLine
		if err := json.Unmarshal(text, &line); err != nil {
			return err
		}
		snapshot, err := snapshotOf(line)
		if err != nil {
			return err
		}
		if err := snapshots.SetSnapshot(context.Background(), "everyone", snapshot); err != nil {
			return err
		}
		tell(event{Event: "snapshot", Version: line.Version})
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
