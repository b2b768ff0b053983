// A server and a client of grpc-go, for pods of the lab.
//
//	grpc serve NAME PORT...      answers each call, and each message of a stream, with NAME
//	grpc call HOST:PORT COUNT    COUNT connections, each with one call and a stream of as many messages
//
// The client prints one JSON document: how long each connection took until the server's SETTINGS had come (grpc-go
// calls that READY), and how often who answered: {"ready_ms": [3.2], "answers": {"stock": 6}, "error": ""}.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	unary   = "/lab.Who/Say"
	stream  = "/lab.Who/Repeat"
	timeout = 10 * time.Second
)

type server struct{ name string }

func (one *server) say(ctx context.Context, decode func(any) error) (any, error) {
	if err := decode(&emptypb.Empty{}); err != nil {
		return nil, err
	}
	return wrapperspb.String(one.name), nil
}

func (one *server) repeat(calls grpc.ServerStream) error {
	for {
		err := calls.RecvMsg(&emptypb.Empty{})
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := calls.SendMsg(wrapperspb.String(one.name)); err != nil {
			return err
		}
	}
}

// What protoc would make of a service with one call and one stream of Empty to StringValue.
var who = grpc.ServiceDesc{
	ServiceName: "lab.Who",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Say",
		Handler: func(one any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return one.(*server).say(ctx, decode)
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName:    "Repeat",
		Handler:       func(one any, calls grpc.ServerStream) error { return one.(*server).repeat(calls) },
		ServerStreams: true,
		ClientStreams: true,
	}},
}

func serve(name string, ports []string) error {
	serving := grpc.NewServer()
	serving.RegisterService(&who, &server{name})
	ended := make(chan error)
	for _, port := range ports {
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go func() { ended <- serving.Serve(listener) }()
	}
	return <-ended
}

type said struct {
	Ready   []float64      `json:"ready_ms"`
	Answers map[string]int `json:"answers"`
	Error   string         `json:"error"`
}

// Until the connection is READY: grpc-go says so when the server's SETTINGS have come.
func ready(ctx context.Context, connection *grpc.ClientConn) error {
	connection.Connect()
	for {
		state := connection.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if !connection.WaitForStateChange(ctx, state) {
			return fmt.Errorf("%s after %s", state, timeout)
		}
	}
}

func (one *said) connection(target string, count int) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	began := time.Now()
	if err := ready(ctx, connection); err != nil {
		return err
	}
	one.Ready = append(one.Ready, float64(time.Since(began).Microseconds())/1000)
	answer := &wrapperspb.StringValue{}
	if err := connection.Invoke(ctx, unary, &emptypb.Empty{}, answer); err != nil {
		return err
	}
	one.Answers[answer.Value]++
	calls, err := connection.NewStream(ctx, &who.Streams[0], stream)
	if err != nil {
		return err
	}
	for range count {
		if err := calls.SendMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		if err := calls.RecvMsg(answer); err != nil {
			return err
		}
		one.Answers[answer.Value]++
	}
	if err := calls.CloseSend(); err != nil {
		return err
	}
	if err := calls.RecvMsg(answer); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream did not end: %v", err)
	}
	return nil
}

func call(target string, count int) error {
	found := said{Ready: []float64{}, Answers: map[string]int{}}
	for range count {
		if err := found.connection(target, count); err != nil {
			found.Error = err.Error()
			break
		}
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func run(words []string) error {
	switch {
	case len(words) > 2 && words[0] == "serve":
		return serve(words[1], words[2:])
	case len(words) == 3 && words[0] == "call":
		count, err := strconv.Atoi(words[2])
		if err != nil || count < 1 {
			return fmt.Errorf("COUNT must be a number above 0, and is %s", words[2])
		}
		return call(words[1], count)
	}
	return errors.New("usage: grpc serve NAME PORT... | grpc call HOST:PORT COUNT")
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}
