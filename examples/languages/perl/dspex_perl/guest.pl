# The Perl guest: takes requests on descriptor 3, evaluates them, answers. It confines nothing: the kernel has, before it began.
package Dspex;
use v5.36;
no warnings 'experimental::builtin';
use builtin qw(is_bool true false);
use B ();
use Errno ();

my ($EXECUTE, $RETURN, $ANSWER, $CALL, $READY) = (1, 3, 16, 18, 20);
my $limit = $ENV{DSPEX_VALUE};
my ($cells, $calls) = (0, 0);
our $began;    # the program could be read, and runs
my ($no_room) = map { qr/$_/ } join '|', map { local $! = $_; quotemeta "$!" } Errno::ENOSPC(), Errno::EFBIG(), Errno::EDQUOT();
open(my $channel, '+<&=', 3) or die "no channel: $!";
binmode $channel;
binmode STDOUT, ':encoding(UTF-8)';
binmode STDERR, ':encoding(UTF-8)';
$_->autoflush(1) for *STDOUT, *STDERR;

# --- JSON: text of characters on this side, UTF-8 on the wire ---------------------------------------------------------------

my %escapes = ('n' => "\n", 't' => "\t", 'r' => "\r", 'b' => "\b", 'f' => "\f");

sub decode ($text) {
    utf8::decode($text);
    pos($text) = 0;
    return value(\$text);
}

sub value ($t) {
    $$t =~ /\G\s+/gc;
    return string($t) if $$t =~ /\G"/gc;
    return number($1) if $$t =~ /\G(-?[0-9][0-9.eE+-]*)/gc;
    return undef if $$t =~ /\Gnull/gc;
    return true if $$t =~ /\Gtrue/gc;
    return false if $$t =~ /\Gfalse/gc;
    if ($$t =~ /\G\[/gc) {
        my @items;
        until ($$t =~ /\G\s*\]/gc) { push @items, value($t); $$t =~ /\G\s*,/gc }
        return \@items;
    }
    $$t =~ /\G\{/gc or die "no JSON\n";
    my %fields;
    until ($$t =~ /\G\s*\}/gc) { $$t =~ /\G\s*"/gc; my $key = string($t); $$t =~ /\G\s*:/gc; $fields{$key} = value($t); $$t =~ /\G\s*,/gc }
    return \%fields;
}

sub number ($said) { return $said =~ /[.eE]/ ? unpack('d', pack 'd', $said) : 0 + $said }

sub string ($t) {
    my $found = '';
    while ($$t =~ /\G([^"\\]*)(["\\])/gc) {
        $found .= $1;
        return $found if $2 eq '"';
        if ($$t =~ /\Gu(d[89ab]..)\\u(....)/gci) { $found .= chr(0x10000 + ((hex($1) - 0xd800) << 10) + hex($2) - 0xdc00) }
        elsif ($$t =~ /\Gu(....)/gc) { $found .= chr hex $1 }
        elsif ($$t =~ /\G(.)/gcs) { $found .= $escapes{$1} // $1 }
    }
    die "no JSON\n";
}

sub quoted ($text) {
    $text =~ s/(["\\])/\\$1/g;
    $text =~ s/([\x00-\x1f\x{d800}-\x{dfff}])/sprintf '\u%04x', ord $1/ge;
    return qq("$text");
}

sub encode ($value, $depth = 0) {
    die bless \"it is nested too deeply, or contains itself", 'Dspex::NotCarried' if $depth > 200;
    return 'null' if !defined $value;
    my $kind = ref $value;
    if ($kind eq 'ARRAY') { return '[' . join(',', map { encode($_, $depth + 1) } @$value) . ']' }
    if ($kind eq 'HASH' || (Scalar::Util::reftype($value) // '') eq 'HASH') {
        return '{' . join(',', map { quoted($_) . ':' . encode($value->{$_}, $depth + 1) } sort keys %$value) . '}';
    }
    die bless \"a $kind cannot be carried", 'Dspex::NotCarried' if $kind;
    return $value ? 'true' : 'false' if is_bool $value;
    my $flags = B::svref_2object(\$value)->FLAGS;
    if (!($flags & B::SVf_POK) && $flags & (B::SVf_IOK | B::SVf_NOK)) {
        die bless \"it is no number", 'Dspex::NotCarried' if $value != $value || abs($value) == 9**9**9;
        my $said = $flags & B::SVf_IOK ? "$value" : sprintf '%.17g', $value;
        return $flags & B::SVf_IOK || $said =~ /[.e]/ ? $said : "$said.0";
    }
    return quoted($value);
}

# --- The channel --------------------------------------------------------------------------------------------------------

sub taken ($size) {
    my $data = '';
    while (length $data < $size) {
        my $got = sysread $channel, $data, $size - length $data, length $data;
        next if !defined $got && $!{EINTR};
        CORE::exit(0) if !$got;
    }
    return $data;
}

sub frame () {
    my (undef, $kind, undef, $length, $size) = unpack 'a2 C C V Q<', taken(16);
    my $body = taken($length);
    taken($size);
    my $end = unpack 'V', $body;
    my $values = substr $body, 4 + $end;
    return $kind, decode(substr $body, 4, $end), $values eq '' ? {} : decode($values);
}

sub said ($kind, $body) {
    my $data = pack('a2 C C V Q<', 'dx', $kind, 0, length $body, 0) . $body;
    while (length $data) {
        my $sent = syswrite $channel, $data;
        substr($data, 0, $sent) = '' if $sent;
    }
}

sub answer ($text, $envelope) {
    my $told = encode($envelope);
    utf8::encode($_) for $text, $told;
    said($ANSWER, pack('V', length $text) . $text . $told);
}

sub call ($name, @arguments) {
    my $text = encode([\@arguments, {}]);
    utf8::encode($text);
    said($CALL, pack('V v', ++$calls, length $name) . $name . $text);
    my ($kind, $envelope, $values) = frame();
    die "$envelope->{type}: $envelope->{message}\n" if $envelope->{failed};
    return $values->{result};
}

# --- A program ----------------------------------------------------------------------------------------------------------

sub Dspex::Left::new ($class, $status) { return bless \$status, $class }

BEGIN { *CORE::GLOBAL::exit = sub { die Dspex::Left->new($_[0] // 0) } }

sub perform ($told, $variables) {
    @ENV{keys $told->{environment}->%*} = values $told->{environment}->%*;
    if (defined $told->{directory}) { mkdir $told->{directory}; chdir $told->{directory} }
    no strict 'refs';
    ${"main::$_"} = $variables->{$_} for keys %$variables;
    for my $tool ($told->{tools}->@*) { my $name = $tool->{name}; no warnings; *{"main::$name"} = sub { call($name, @_) } }
    my $file = ++$cells == 1 ? '<program>' : "<program $cells>";
    local $SIG{ALRM} = sub { die bless {}, 'Dspex::Deadline' };
    local $SIG{INT} = sub { die bless {}, 'Dspex::Interrupted' };
    Time::HiRes::alarm($told->{timeout});
    $began = 0;
    my $value = Dspex::Program::run($told->{code}, $file);
    my $error = $@;
    Time::HiRes::alarm(0);
    return told($value) if !ref $error && $error eq '';
    return failed($error);
}

sub told ($value) {
    my $type = !defined $value ? 'undef' : ref $value || (is_bool($value) ? 'bool' : 'scalar');
    my $text = eval { encode($value) };
    return answer('', { type => $type, repr => "$value" }) if ref $@;
    return answer('', plain('value_limit', 'ValueLimit', "the value takes more than $limit bytes")) if length $text > $limit;
    answer(defined $value ? $text : '', defined $value ? { type => $type } : {});
}

sub plain ($kind, $type, $message, $line = undef, $trace = '') {
    return { error => { kind => $kind, type => $type, message => $message, line => $line, traceback => $trace } };
}

sub failed ($error) {
    my $kind = ref $error;
    return answer('', plain('timeout', 'Deadline', 'the program ran longer than its wall time limit')) if $kind eq 'Dspex::Deadline';
    return answer('', plain('runtime', 'KeyboardInterrupt', 'the run was interrupted')) if $kind eq 'Dspex::Interrupted';
    return answer('', $$error ? plain('runtime', 'SystemExit', "$$error") : { type => 'SystemExit' }) if $kind eq 'Dspex::Left';
    my $message = "$error";
    my ($line) = $message =~ /at <program(?: \d+)?> line (\d+)/;
    my $unread = !$began && $message !~ /^BEGIN failed/m;
    my $full = $message =~ $no_room ? 'disk_limit' : 'runtime';
    answer('', plain($unread ? 'syntax' : $full, $kind || 'die', $message, defined $line ? 0 + $line : undef, $message));
}

require Scalar::Util;
require Time::HiRes;
said($READY, '');
while (1) { my ($kind, $told, $variables) = frame(); perform($told, $variables) }

# Where programs are evaluated: no name of the engine's is in sight.
package Dspex::Program;

sub run { package main; no strict; no warnings; utf8::upgrade($_[0]); return scalar eval "use utf8; \$Dspex::began = 1;\n#line 1 \"$_[1]\"\n$_[0]" }
