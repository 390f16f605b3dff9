// Ping-pong between two stacks of gVisor's netstack in one process, linked by a pair of pipe endpoints.
//
//	netstack SIZE CONNECTIONS SECONDS WARM_UP      prints transactions and the seconds they took
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	nic  = 1
	port = 7
)

var (
	clientAddress = tcpip.Address("\x0a\x00\x00\x01")
	serverAddress = tcpip.Address("\x0a\x00\x00\x02")
	transactions  int64
)

func check(what string, err interface{}, failed bool) {
	if failed {
		fmt.Fprintf(os.Stderr, "netstack: %s: %v\n", what, err)
		os.Exit(1)
	}
}

func newStack(link stack.LinkEndpoint, address tcpip.Address) *stack.Stack {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	err := s.CreateNIC(nic, link)
	check("CreateNIC", err, err != nil)
	err = s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: address, PrefixLen: 24},
	}, stack.AddressProperties{})
	check("AddProtocolAddress", err, err != nil)
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return s
}

func echo(c *gonet.TCPConn) {
	buffer := make([]byte, 65536)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		if _, err = c.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func exchange(c *gonet.TCPConn, size int) {
	request, answer := make([]byte, size), make([]byte, size)
	for {
		if _, err := c.Write(request); err != nil {
			return
		}
		for got := 0; got < size; {
			n, err := c.Read(answer[got:])
			if err != nil {
				return
			}
			got += n
		}
		atomic.AddInt64(&transactions, 1)
	}
}

func number(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	check("argument", err, err != nil)
	return value
}

func main() {
	check("arguments", "SIZE CONNECTIONS SECONDS WARM_UP", len(os.Args) != 5)
	size, connections := int(number(os.Args[1])), int(number(os.Args[2]))
	a, b := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", 1500)
	client, server := newStack(a, clientAddress), newStack(b, serverAddress)
	listener, err := gonet.ListenTCP(server, tcpip.FullAddress{NIC: nic, Port: port}, ipv4.ProtocolNumber)
	check("ListenTCP", err, err != nil)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go echo(c.(*gonet.TCPConn))
		}
	}()
	for i := 0; i < connections; i++ {
		c, err := gonet.DialTCP(client, tcpip.FullAddress{NIC: nic, Addr: serverAddress, Port: port}, ipv4.ProtocolNumber)
		check("DialTCP", err, err != nil)
		go exchange(c, size)
	}
	time.Sleep(time.Duration(number(os.Args[4]) * 1e9))
	begin, before := time.Now(), atomic.LoadInt64(&transactions)
	time.Sleep(time.Duration(number(os.Args[3]) * 1e9))
	fmt.Println(atomic.LoadInt64(&transactions)-before, time.Since(begin).Seconds())
}
