package server

import (
	"net"
	"sync"

	"github.com/strongroom/strongroom/internal/wire"
)

// A limitListener bounds how many connections are open at a time, in all and from one address. One too many is closed at
// once, before the TLS handshake costs anything.
type limitListener struct {
	net.Listener
	*connections
}

// connections counts the open connections of all HTTPS listeners together.
type connections struct {
	max, maxPerAddress int
	refused            func()

	mu        sync.Mutex // guards what follows
	open      int
	byAddress map[string]int // holds only addresses with open connections
}

func (l limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := floodKey(wire.AddressOf(c.RemoteAddr().String())).String() // of IPv6 one subscriber's network
		if l.enter(address) {
			return &countedConn{Conn: c, leave: func() { l.leave(address) }}, nil
		}
		l.refused()
		c.Close()
	}
}

func (l *connections) enter(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.max || l.byAddress[address] >= l.maxPerAddress {
		return false
	}
	l.open++
	l.byAddress[address]++
	return true
}

func (l *connections) leave(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byAddress[address]--; l.byAddress[address] == 0 {
		delete(l.byAddress, address)
	}
}

type countedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.leave)
	return err
}
