//! What `--help` and `--help_tls` print.

/// The usage under the name the program was called by.
pub(crate) fn text(program: &str) -> String {
    format!("\nUsage: {program} [options]\n{COMMANDS}{OPTIONS}")
}

const COMMANDS: &str = "
Commands:
    explain <url> <stream> <consumer>
                                     Ask a running server why a consumer is not delivering
    import <dir>                     Take over the streams of a stopped nats-server
    check, repair, export <dir>      Look at a stopped store (each with --help)
";

const OPTIONS: &str = "
Server:
    -a, --addr, --net <host>         Address to listen on (0.0.0.0)
    -p, --port <port>                Port for clients (4222); -1 takes any free one
    -n, --name, --server_name <name> Name of this server
    -P, --pid <file>                 Write the process id to a file
    -m, --http_port <port>           Port for monitoring over HTTP
    -ms, --https_port <port>         Port for monitoring over HTTPS
    -c, --config <file>              Configuration file; flags lie over it
    -t                               Check the configuration file and exit
    -sl, --signal <command>[=<pid>]  Signal a running server and exit:
                                     ldm, stop, quit, term, reopen or reload;
                                     <pid> may be a process id or the path of a pid file
        --client_advertise <addr>    host[:port] told to clients instead of the own address
        --ports_file_dir <dir>       Write the ports in use to <dir>/<program>_<pid>.ports

Logging:
    -l, --log <file>                 Log to a file instead of standard error
    -T, --logtime                    Put the time in front of each line (true)
        --logtime_utc                That time is UTC
    -s, --syslog                     Log to the system log
    -r, --remote_syslog <addr>       Log to a remote system log
    -D, --debug                      Log more
    -V, --trace                      Log the protocol
    -VV                              Log the protocol, the system account's too
    -DV                              -D and -V
    -DVV                             -D and -VV
        --log_size_limit <bytes>     Start a new log file above this size
        --max_traced_msg_len <n>     Show at most so many bytes of a message

JetStream:
    -js, --jetstream                 Turn JetStream on
    -sd, --store_dir <dir>           Folder for its data

Who may connect:
        --user <user>                Only this user
        --pass <password>            The user's password
        --auth <token>               Only clients with this token

TLS:
        --tls                        Clients must use TLS
        --tlscert <file>             The server's certificate
        --tlskey <file>              The key of that certificate
        --tlsverify                  Clients must show a certificate, too
        --tlscacert <file>           Authority that signs clients' certificates

Cluster:
        --routes <url, url>          Servers to connect to
        --cluster <url>              Listen for other servers
        --cluster_name <name>        Name of the cluster
        --cluster_listen <url>       Where other servers connect to
        --cluster_advertise <addr>   host[:port] told to other servers
        --no_advertise               Do not tell clients about other servers
        --connect_retries <n>        Attempts to connect to servers learned from others

Profiling:
        --profile <port>             Port for profiles

Common:
    -h, --help                       This text
    -v, --version                    The version
        --help_tls                   About TLS
";

/// What to write into a configuration file for TLS.
pub(crate) const TLS: &str = r#"
TLS is configured in a block of the configuration file:

    tls {
        cert_file: "/etc/certs/server.pem"
        key_file:  "/etc/certs/server-key.pem"

        # Clients must show a certificate of this authority:
        ca_file:   "/etc/certs/ca.pem"
        verify:    true

        # TLS 1.2 suites and curves, if the defaults do not suit:
        cipher_suites: [ "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" ]
        curve_preferences: [ "X25519", "CurveP256" ]
    }

Or on the command line: --tls --tlscert <file> --tlskey <file> [--tlsverify --tlscacert <file>]
"#;
