package server

import (
	"context"
	"crypto/fips140"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/strongroom/strongroom/internal/store"
)

// metrics are the server's counters, under the dimensions of Azure's own metrics (contract §18.3): ServiceApiHit,
// ServiceApiResult and ServiceApiLatency by ActivityType, ActivityName, StatusCode and StatusCodeClass.
type metrics struct {
	registry *prometheus.Registry
	results  *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	refused  prometheus.Counter

	series sync.Map // seriesKey → *series: the hot path looks up neither of the vectors by label
}

type seriesKey struct {
	operation string
	status    int
}

type series struct {
	results prometheus.Counter
	latency prometheus.Observer
}

func newMetrics(st *state) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "strongroom_service_api_results_total",
			Help: "Requests answered (Azure: ServiceApiHit, ServiceApiResult).",
		}, []string{"activity_type", "activity_name", "status_code", "status_code_class"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "strongroom_service_api_latency_seconds",
			Help:    "Time from a request's header to its record in the audit log (Azure: ServiceApiLatency).",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"activity_type", "activity_name"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "strongroom_connections_refused_total",
			Help: "Connections closed at once because a limit was reached.",
		}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m.registry.MustRegister(m.results, m.latency, m.refused,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "strongroom_log_lines_dropped_total",
			Help: "Lines of the operational log that were lost because nothing took them.",
		}, func() float64 {
			total, _ := droppedLines(st.log)
			return float64(total)
		}),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("strongroom_store_bytes", "Size of the database file.", func() float64 { return float64(st.bolt.Stats().FileBytes) }),
		gauge("strongroom_store_commits", "Commits to the database; each is one fsync.", func() float64 { return float64(st.bolt.Stats().Commits) }),
		gauge("strongroom_store_updates", "Transactions committed; several share a commit.", func() float64 { return float64(st.bolt.Stats().Updates) }),
		gauge("strongroom_audit_records", "Number of the newest record in the audit log.", func() float64 { return float64(st.audit.Head().Seq) }),
		gauge("strongroom_audit_up", "1 if the audit log takes records.", func() float64 {
			if st.audit.Err() != nil {
				return 0
			}
			return 1
		}),
	)
	return m
}

// activityType is Azure's: the kind of object that an operation is about.
func activityType(operation string) string {
	for _, kind := range []string{"Secret", "Key", "Certificate", "Vault", "Token"} {
		if strings.HasPrefix(operation, kind) {
			return strings.ToLower(kind)
		}
	}
	return "other"
}

// observe counts one request. Operations are the names of routes, so the number of series is bounded.
func (m *metrics) observe(operation string, status int, d time.Duration) {
	key := seriesKey{operation, status}
	found, ok := m.series.Load(key)
	if !ok {
		kind := activityType(operation)
		found, _ = m.series.LoadOrStore(key, &series{
			results: m.results.WithLabelValues(kind, operation, strconv.Itoa(status), strconv.Itoa(status/100)+"xx"),
			latency: m.latency.WithLabelValues(kind, operation),
		})
	}
	s := found.(*series)
	s.results.Inc()
	s.latency.Observe(d.Seconds())
}

// operations serves operators: health, metrics and, if wanted, profiles, on a listener of their own.
func (s *Server) operations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, health{Status: "ok"}) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	if s.cfg.Operations.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return s.cfg.Operations.notForPages(mux)
}

// notForPages refuses what a web page in the browser of somebody on this machine makes that send: requests of other
// sites, which browsers mark, and requests for names that a foreign DNS server points here (rebinding). Neither is a
// defence against programs; those may ask.
func (c *OperationsConfig) notForPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !c.answersTo(r.Host) {
			http.Error(w, "This is no host of the operations listener: use its address, or list the name in operations.hosts.",
				http.StatusMisdirectedRequest)
			return
		}
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "none", "same-origin":
			next.ServeHTTP(w, r)
		default:
			http.Error(w, "Other sites' pages may not ask here.", http.StatusForbidden)
		}
	})
}

// answersTo tells whether a Host header is one that cannot come from a rebound name: none at all (browsers send one
// always), localhost, a listed name, or an address literal that the listener can have.
func (c *OperationsConfig) answersTo(hostport string) bool {
	if hostport == "" {
		return true
	}
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(host, "]"), "["), "."))
	if host == "localhost" || slices.Contains(c.Hosts, host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	// A wildcard address, which only insecureRemote allows, can be reached at addresses that nobody here knows.
	listen, err := parseListen(c.Listen)
	return ip.Unmap().IsLoopback() || err == nil && (listen.Addr() == ip || listen.Addr().IsUnspecified())
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	h, status := s.health(r.Context()), http.StatusOK
	if h.Status != "ok" {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, h)
}

// health is the answer of /healthz, which has a status alone, and of /readyz. A failed check is named with its cause.
type health struct {
	Status   string            `json:"status"`            // "ok" or "unavailable"
	FIPS140  string            `json:"fips140,omitempty"` // "off", "on" or "only", as in GODEBUG
	Failures map[string]string `json:"failures,omitempty"`
	Warnings map[string]string `json:"warnings,omitempty"`
}

func (s *Server) health(ctx context.Context) health {
	h := health{Status: "ok", FIPS140: fipsMode(), Failures: make(map[string]string), Warnings: make(map[string]string)}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	check := func(what string, err error) {
		if err != nil {
			h.Status, h.Failures[what] = "unavailable", err.Error()
		}
	}
	check("audit", s.audit.Err())
	// An Update that writes nothing costs no commit, and is refused when writing is.
	check("store", s.db.Update(ctx, func(store.Tx) error { return nil }))
	cert, err := s.certs.current()
	check("certificate", err)
	if err == nil && cert.Leaf != nil {
		switch left := cert.Leaf.NotAfter.Sub(s.now()); {
		case left <= 0:
			check("certificate", errors.New("the TLS certificate has expired"))
		case left < 14*24*time.Hour:
			h.Warnings["certificate"] = "the TLS certificate ends on " + cert.Leaf.NotAfter.UTC().Format(time.RFC3339)
		}
		if warning := uncovered(cert.Leaf, s.cfg); warning != "" {
			h.Warnings["names"] = warning
		}
	}
	if warning := s.audit.Warning(); warning != "" {
		h.Warnings["audit"] = warning
	}
	if s.rolledBack != "" {
		h.Warnings["store"] = s.rolledBack
	}
	if _, lines := droppedLines(s.log); lines > 0 {
		h.Warnings["log"] = fmt.Sprintf("the operational log takes nothing; %d of its lines are lost", lines)
	}
	return h
}

// fipsMode is how Go's FIPS 140-3 module runs: with "only", everything outside of the standard is refused.
func fipsMode() string {
	switch {
	case fips140.Enforced():
		return "only"
	case fips140.Enabled():
		return "on"
	}
	return "off"
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone, or there is nothing to say
}
