# Signatures of SYN packets of systems of today, in the form of p0f's file:
#
#   sig = version:initial TTL:length of IP options:mss:window,scale:layout of options:quirks:payload
#
# The window is a number, mss*N, mtu*N, %N (a multiple of N), or mss*max: the largest multiple of the mss below 65536,
# as Linux has it since 4.20. Of the quirks only df counts. The first signature that fits wins.
#
# They are what is published of these systems, and what was seen of them; only those of Linux are tested on a living
# system. A host behind a proxy or a load balancer shows that one's system.

[tcp:request]

label = s:unix:Linux:4.20 or later
sig   = *:64:0:*:mss*max,*:mss,sok,ts,nop,ws:df,id+:0
sig   = *:64:0:*:mss*44,*:mss,sok,ts,nop,ws:df,id+:0

label = s:unix:Linux:4.20 or later, without time stamps
sig   = *:64:0:*:mss*max,*:mss,nop,nop,sok,nop,ws:df,id+:0

label = s:unix:Linux:3.10 to 4.19
sig   = *:64:0:*:mss*20,*:mss,sok,ts,nop,ws:df,id+:0

label = s:unix:Linux:3.0 to 3.9
sig   = *:64:0:*:mss*10,*:mss,sok,ts,nop,ws:df,id+:0

label = s:unix:Linux:2.6
sig   = *:64:0:*:mss*4,*:mss,sok,ts,nop,ws:df,id+:0

label = s:unix:Android:
sig   = *:64:0:*:65535,*:mss,sok,ts,nop,ws:df,id+:0

label = s:win:Windows:10, 11, Server 2016 or later
sig   = *:128:0:*:mss*44,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig   = *:128:0:*:mss*45,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig   = *:128:0:*:65535,8:mss,nop,ws,nop,nop,sok:df,id+:0
sig   = *:128:0:*:64240,8:mss,nop,ws,nop,nop,sok:df,id+:0

label = s:win:Windows:Vista to 8.1, Server 2008 to 2012
sig   = *:128:0:*:8192,*:mss,nop,ws,nop,nop,sok:df,id+:0
sig   = *:128:0:*:8192,0:mss,nop,nop,sok:df,id+:0

label = s:win:Windows:2000, XP, Server 2003
sig   = *:128:0:*:65535,0:mss,nop,nop,sok:df,id+:0
sig   = *:128:0:*:64240,0:mss,nop,nop,sok:df,id+:0
sig   = *:128:0:*:16384,0:mss,nop,nop,sok:df,id+:0
sig   = *:128:0:*:65535,*:mss,nop,ws,nop,nop,ts,nop,nop,sok:df,id+:0

label = s:unix:macOS, iOS:
sig   = *:64:0:*:65535,*:mss,nop,ws,nop,nop,ts,sok,eol+1:df,id+:0

label = s:unix:FreeBSD:9 or later
sig   = *:64:0:*:65535,*:mss,nop,ws,sok,ts:df,id+:0

label = s:unix:OpenBSD:
sig   = *:64:0:*:16384,*:mss,nop,nop,sok,nop,ws,nop,nop,ts:df,id+:0

label = s:other:Cisco IOS:
sig   = *:255:0:*:4128,0:mss:df,id+:0
sig   = *:255:0:*:4128,0:mss::0

label = s:other:lwIP (small devices):
sig   = *:255:0:*:mss*4,0:mss:*:0
sig   = *:255:0:*:mss*2,0:mss:*:0
